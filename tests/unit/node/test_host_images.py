"""Programs and folders of the machine under the names of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeport.node.images.base import Image, ImageError, InvalidImageName, PullRequest
from nodeport.node.images.host import BadHostImage, parse_mapping
from nodeport.node.images.nodeimages import node_images


def program(folder: Path, name: str = "tool") -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\necho hello\n")
    path.chmod(0o755)
    return path


async def resolved(folder: Path, reference: str, *mappings: str) -> Image:
    return await node_images(folder / "images", mappings).resolve(PullRequest(reference))


async def test_a_program_is_the_entrypoint_and_its_bytes_are_the_images_identity(tmp_path: Path) -> None:
    tool = program(tmp_path)
    image = await resolved(tmp_path, "example.org/tool:3", f"example.org/tool={tool}")
    assert image.name == "example.org/tool:3"
    assert image.config.entrypoint == ("/opt/nodeport/bin/tool",)
    assert ("/opt/nodeport/bin/tool", str(tool)) in image.binds
    assert all((layer / "opt/nodeport/bin/tool").is_file() for layer in image.layers)
    tool.write_text("#!/bin/sh\necho other\n")
    other = await resolved(tmp_path, "example.org/tool:3", f"example.org/tool={tool}")
    assert other.image_id != image.image_id
    assert image.image_id.startswith("example.org/tool@sha256:")


async def test_a_program_that_is_seen_anyway_keeps_its_path(tmp_path: Path) -> None:
    image = await resolved(tmp_path, "env", "env=/usr/bin/env")
    assert image.config.entrypoint == ("/usr/bin/env",)
    assert (image.layers[0] / "etc/passwd").exists()
    assert not (image.layers[0] / "etc/shadow").exists()


async def test_a_folder_is_the_root_itself(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    image = await resolved(tmp_path, "mine:1", f"mine:1={root}")
    assert (image.layers, image.binds, image.config.entrypoint) == ((root,), (), ())


async def test_a_name_with_a_tag_stands_for_that_tag_only(tmp_path: Path) -> None:
    mapping = f"tool:1={program(tmp_path)}"
    await resolved(tmp_path, "docker.io/library/tool:1", mapping)
    with pytest.raises(ImageError, match='image "tool:2" is not on this machine'):
        await resolved(tmp_path, "tool:2", mapping)


async def test_a_mapping_goes_before_the_built_in_image(tmp_path: Path) -> None:
    built_in = await resolved(tmp_path, "nodeport/echo")
    assert built_in.describes_pod
    assert not (await resolved(tmp_path, "nodeport/echo", f"nodeport/echo={program(tmp_path)}")).describes_pod


async def test_a_program_that_has_gone_cannot_be_had(tmp_path: Path) -> None:
    tool = program(tmp_path)
    images = node_images(tmp_path / "images", [f"tool={tool}"])
    tool.unlink()
    with pytest.raises(ImageError, match=f"stands for {tool} of this node: No such file"):
        await images.resolve(PullRequest("tool"))
    assert len(images.held()) == 1


async def test_a_name_that_is_none_has_its_own_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidImageName) as caught:
        await resolved(tmp_path, "No Name")
    assert caught.value.reason == "InvalidImageName"


@pytest.mark.parametrize(
    ("text", "named"),
    [("tool", "must be NAME=PATH"), ("=x", "must be NAME=PATH"), ("A=/bin/sh", "must be lowercase")],
)
def test_a_mapping_that_cannot_be_is_named(text: str, named: str) -> None:
    with pytest.raises(BadHostImage, match=named):
        parse_mapping(text)


@pytest.mark.parametrize(
    ("path", "named"),
    [("/nowhere", "must be a program or a folder"), ("/etc/passwd", "must be a program"), ("/", "own root")],
)
def test_a_path_that_cannot_be_run_is_named(path: str, named: str) -> None:
    with pytest.raises(BadHostImage, match=named):
        parse_mapping(f"tool={path}").check()
