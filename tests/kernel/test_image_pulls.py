"""Pulls from a real registry on loopback: what is fetched, who may, what is checked, and what a broken pull leaves."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from kernel.clusters import wait_for
from kernel.registries import ISSUER, PASSWORD, SERVICE, USER, RunningRegistry, Tokens, registry
from nodeport.node.images.base import Image, ImageError, PullPolicy, PullRequest
from nodeport.node.images.nodeimages import NodeImages, node_images
from nodeport.node.images.registry import Registries
from unit.node.layerbytes import digest, layer

BASE, TOP = layer(("etc/os", b"base")), layer(("app", b"one"))
APP = "demo/app"
HASHED = "$2b$04$W7R30lbGW1qInmlvDPXqnuGGMNmFJi3WKOxnM8HpNGCIWsRfT6VE2"
"""PASSWORD, as htpasswd keeps it."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry") / "open") as found:
        yield found


@pytest.fixture
def images(tmp_path: Path) -> NodeImages:
    return node_images(tmp_path)


async def pulled(images: NodeImages, reference: str, **options: object) -> Image:
    return await images.resolve(PullRequest(reference, **options))  # type: ignore[arg-type]


def left(folder: Path) -> list[str]:
    """What of a store is there besides its lock."""
    return sorted(
        str(path) for path in (folder / "content").rglob("*") if path.is_file() and path.name != "lock"
    )


async def test_an_image_is_pulled_and_then_is_here(running: RunningRegistry, images: NodeImages) -> None:
    packed = gzip.compress(TOP)
    name = running.push(APP, "1", [BASE, TOP], [BASE, packed], Entrypoint=["/app"], Env=["A=b"])
    told: list[str] = []
    image = await pulled(images, f"{running.host}/{APP}:1", pulling=lambda: told.append("pulling"))
    assert image.image_id == f"{running.host}/{APP}@{name}"
    assert (image.config.entrypoint, image.config.env, image.size) == (
        ("/app",),
        ("A=b",),
        len(BASE) + len(packed),
    )
    assert [
        (folder / file).read_bytes() for folder, file in zip(image.layers, ("app", "etc/os"), strict=True)
    ] == [b"one", b"base"]
    assert await pulled(images, f"{running.host}/{APP}:1", pulling=lambda: told.append("again")) == image
    assert await pulled(images, image.image_id, pulling=lambda: told.append("again")) == image
    assert told == ["pulling"]


async def test_a_layer_that_is_here_is_not_fetched_again(
    running: RunningRegistry, images: NodeImages
) -> None:
    base = layer(("base", os.urandom(100)))
    running.push(APP, "one", [base, TOP])
    running.push(APP, "two", [base, layer(("app", b"two"))])
    one = await pulled(images, f"{running.host}/{APP}:one")
    two = await pulled(images, f"{running.host}/{APP}:two")
    assert one.layers[-1] == two.layers[-1]
    wait_for(lambda: running.fetched(base), "the access log")
    assert running.fetched(base) == 1


async def test_always_asks_the_registry_and_fetches_what_is_new(
    running: RunningRegistry, images: NodeImages
) -> None:
    running.push(APP, "moving", [BASE])
    name = f"{running.host}/{APP}:moving"
    first = await pulled(images, name)
    assert await pulled(images, name, policy=PullPolicy.ALWAYS) == first
    running.push(APP, "moving", [TOP])
    assert await pulled(images, name) == first
    second = await pulled(images, name, policy=PullPolicy.ALWAYS)
    assert second.image_id != first.image_id
    assert (second.layers[0] / "app").exists()


async def test_many_pods_at_once_pull_once(running: RunningRegistry, images: NodeImages) -> None:
    content = layer(("app", os.urandom(100)))
    running.push(APP, "many", [content])
    found = await asyncio.gather(*(pulled(images, f"{running.host}/{APP}:many") for _ in range(10)))
    assert len(set(found)) == 1
    assert running.fetched(content) == 1


async def test_of_an_index_the_manifest_for_this_machine_is_pulled_and_the_index_is_its_id(
    running: RunningRegistry, images: NodeImages
) -> None:
    sizes = {}
    for tag, content, machine in (("arm", BASE, "s390x"), ("amd", TOP, os.uname().machine)):
        sizes[tag] = (
            running.push(APP, tag, [content]),
            machine.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        )
    entries = [(name, running.blob_file(name).stat().st_size, machine) for name, machine in sizes.values()]
    index = running.push_index(APP, "all", entries)
    image = await pulled(images, f"{running.host}/{APP}:all")
    assert image.image_id == f"{running.host}/{APP}@{index}"
    assert (image.layers[0] / "app").exists()
    assert await pulled(images, f"{running.host}/{APP}@{index}", policy=PullPolicy.NEVER) == image
    running.push_index(APP, "other", entries[:1])
    with pytest.raises(ImageError, match="is not among linux/s390x"):
        await pulled(images, f"{running.host}/{APP}:other")


async def test_what_the_registry_has_not_is_said_in_its_words(
    running: RunningRegistry, images: NodeImages, tmp_path: Path
) -> None:
    name = f"{running.host}/{APP}:none"
    with pytest.raises(
        ImageError,
        match=rf'^failed to pull and unpack image "{name}": failed to resolve reference "{name}": .*404 \(MANIFEST_UNKNOWN',
    ):
        await pulled(images, name)
    assert left(tmp_path) == []


async def test_a_registry_that_cannot_be_reached_is_named_with_the_cause(
    images: NodeImages, tmp_path: Path
) -> None:
    name = f"127.0.0.1:1/{APP}:none"
    with pytest.raises(ImageError) as caught:
        await pulled(images, name)
    assert str(caught.value) == (
        f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": failed to do request: '
        f'Get "http://127.0.0.1:1/v2/{APP}/manifests/none": dial tcp 127.0.0.1:1: connect: connection refused'
    )
    assert caught.value.told(name) == f'Failed to pull image "{name}": {caught.value}'
    assert left(tmp_path) == []


async def test_names_without_a_registry_are_pulled_from_the_default_one_if_there_is_any(
    running: RunningRegistry, tmp_path: Path
) -> None:
    running.push(APP, "1", [BASE, TOP])
    image = await pulled(node_images(tmp_path / "a", registries=Registries(running.host)), f"{APP}:1")
    assert image.name == f"docker.io/{APP}:1"
    with pytest.raises(ImageError, match="its name has no registry"):
        await pulled(node_images(tmp_path / "b"), f"{APP}:1")


async def test_a_layer_that_was_changed_on_the_way_is_refused(
    running: RunningRegistry, images: NodeImages, tmp_path: Path
) -> None:
    content = layer(("app", os.urandom(50)))
    running.push(APP, "changed", [content])
    for other in (content[::-1], content + b"more", content[:-1]):
        running.blob_file(digest(content)).write_bytes(other)
        with pytest.raises(
            ImageError, match=rf'^failed to pull and unpack image "{running.host}/{APP}:changed": '
        ):
            await pulled(images, f"{running.host}/{APP}:changed")
        assert left(tmp_path) == []
    running.blob_file(digest(content)).write_bytes(content)
    await pulled(images, f"{running.host}/{APP}:changed")


async def test_a_layer_that_is_not_what_the_configuration_says_is_refused(
    running: RunningRegistry, images: NodeImages, tmp_path: Path
) -> None:
    running.push(APP, "lying", [BASE], [TOP])
    with pytest.raises(ImageError, match="its content has the digest"):
        await pulled(images, f"{running.host}/{APP}:lying")
    assert left(tmp_path) == []


PULL = """
import asyncio, os, pathlib, signal, sys
from nodeport.node.images import layers
from nodeport.node.images.base import PullRequest
from nodeport.node.images.nodeimages import node_images

if sys.argv[3] == "after a layer":
    add = layers.Intake.add
    layers.Intake.add = lambda *a: (add(*a), os.kill(os.getpid(), signal.SIGKILL))
if sys.argv[3] == "in a layer":
    layers._flush = lambda _: os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(node_images(pathlib.Path(sys.argv[1])).resolve(PullRequest(sys.argv[2])))
"""


@pytest.mark.parametrize("moment", ["in a layer", "after a layer"])
async def test_a_killed_pull_leaves_nothing_half_and_the_next_one_goes_on(
    running: RunningRegistry, images: NodeImages, tmp_path: Path, moment: str
) -> None:
    first = layer(("first", os.urandom(100)))
    running.push(APP, "killed", [first, TOP])
    name = f"{running.host}/{APP}:killed"
    done = subprocess.run([sys.executable, "-c", PULL, str(tmp_path), name, moment], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(images.held()) == 1  # the built-in one
    image = await pulled(images, name)
    assert (image.layers[1] / "first").stat().st_size == 100
    assert list((tmp_path / "content/scratch").iterdir()) == []
    assert running.fetched(first) == (1 if moment == "after a layer" else 2)


async def test_a_pull_whose_pod_goes_leaves_nothing(
    running: RunningRegistry, images: NodeImages, tmp_path: Path
) -> None:
    running.push(APP, "slow", [layer(("big", os.urandom(20_000_000)))])
    pulling = asyncio.ensure_future(pulled(images, f"{running.host}/{APP}:slow"))
    scratch = tmp_path / "content/scratch"
    deadline = time.monotonic() + 60
    while not list(scratch.glob("*/*/big")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    assert list(scratch.iterdir()) == []
    assert await pulled(images, f"{running.host}/{APP}:slow")


def secret(host: str, user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {".dockerconfigjson": json.dumps({"auths": {host: {"username": user, "password": password}}})}


@pytest.mark.parametrize("lifetime", [timedelta(minutes=5), timedelta(seconds=-61)])
async def test_a_registry_with_tokens_gives_to_whom_its_token_server_lets(
    tmp_path: Path, lifetime: timedelta
) -> None:
    tokens = Tokens(tmp_path)
    with tokens.serving() as realm:
        auth = {
            "token": {
                "realm": realm,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(tokens.bundle),
            }
        }
        with registry(tmp_path / "closed", auth) as closed:
            closed.authorization = f"Bearer {tokens.token(f'repository:{APP}:pull,push')}"
            closed.push(APP, "1", [BASE, TOP])
            tokens.lifetime = lifetime
            images, name = node_images(tmp_path), f"{closed.host}/{APP}:1"
            wrong = secret(closed.host, password="wrong")
            for secrets in ([], [wrong], [secret("elsewhere.example")]):
                with pytest.raises(ImageError, match="401") as caught:
                    await pulled(images, name, secrets=secrets)
                assert "wrong" not in str(caught.value)
            assert tokens.given == 0
            if lifetime < timedelta():
                with pytest.raises(ImageError, match="401"):
                    await pulled(images, name, secrets=[secret(closed.host)])
                return
            assert len((await pulled(images, name, secrets=[wrong, secret(closed.host)])).layers) == 2
            assert tokens.given == 1


async def test_a_registry_with_passwords_gives_to_whom_it_knows(tmp_path: Path) -> None:
    (tmp_path / "passwords").write_text(f"{USER}:{HASHED}\n")
    auth = {"htpasswd": {"realm": "test", "path": str(tmp_path / "passwords")}}
    with registry(tmp_path / "closed", auth) as closed:
        closed.authorization = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        closed.push(APP, "1", [BASE])
        images, name = node_images(tmp_path), f"{closed.host}/{APP}:1"
        with pytest.raises(ImageError, match="401 .UNAUTHORIZED"):
            await pulled(images, name)
        wrong = secret(closed.host, password="wrong")
        assert await pulled(images, name, secrets=[wrong, secret(f"http://{closed.host}/v1/")])
