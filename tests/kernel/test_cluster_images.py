"""Images that were built from folders and loaded from archives, run by pods of a real cluster."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, local_cluster, wait_for
from kernel.kubectls import StreamingKubectl, kubectl_program
from kernel.registries import RunningRegistry, registry
from nodeport.api.resources import EVENTS, PODS
from nodeport.node.images.layers import layer_name, mounted
from unit.node.layerbytes import digest, entry, layer, oci_image

MOST = 127


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of one static program under its usual names."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "bin").mkdir()
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n")
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, folder / "bin/busybox")
    for name in ("sh", "cat", "echo", "id", "ls", "sleep", "test", "touch", "rm"):
        (folder / "bin" / name).symlink_to("busybox")
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry") / "open") as found:
        yield found


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, root: Path, running: RunningRegistry
) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("images")) as made:
        made.up("--nodes", "1", "--default-registry", running.host)
        made.nodeport(
            "image", "build-rootfs", str(root), "base:1", "--entrypoint", "/bin/sh -c", "--cmd", "'echo $GREETING; id -un'",
            "--env", "GREETING=hello you", "--user", "web", "--workdir", "/etc",
        )  # fmt: skip
        yield made


def ended(cluster: LocalCluster, name: str, **options: object) -> list[str]:
    cluster.pod(name, spec_restartPolicy="Never", **options)
    cluster.wait_for_pod(
        name, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"), "it has ended"
    )
    said = cluster.log_of(name).splitlines()
    cluster.delete(PODS, name, gracePeriodSeconds=0)
    return said


def loaded(cluster: LocalCluster, folder: Path, archive: bytes, name: str) -> None:
    (folder / "image.tar").write_bytes(archive)
    cluster.nodeport("image", "load", str(folder / "image.tar"), "--as", name)


def on_disk(cluster: LocalCluster, *layers: bytes) -> list[bool]:
    """Which of the layers are there."""
    folder = cluster.paths.images / "content/layers"
    return [(folder / layer_name(digest(each))).exists() for each in layers]


def busybox_layer(root: Path) -> bytes:
    links = [
        entry(f"bin/{path.name}", tarfile.SYMTYPE, linkname="busybox")
        for path in sorted((root / "bin").iterdir()) if path.is_symlink()
    ]  # fmt: skip
    return layer((entry("bin/busybox", mode=0o755), (root / "bin/busybox").read_bytes()), *links)


def test_an_image_of_a_folder_runs_as_it_was_told(cluster: LocalCluster) -> None:
    assert ended(cluster, "built", image="base:1") == ["hello you", "web"]
    said = ended(cluster, "other", image="base:1", args=["ls"])
    assert "passwd" in said
    assert "docker.io/library/base:1" in cluster.nodeport("image", "ls")


def test_a_running_pod_of_an_image_takes_commands(cluster: LocalCluster) -> None:
    cluster.pod("runs", image="base:1", command=["sleep", "1000"])
    cluster.wait_for_pod("runs", lambda pod: pod["status"].get("phase") == "Running", "it runs")
    pod = cluster.get(PODS, "runs")
    state = pod["status"]["containerStatuses"][0]
    assert state["image"] == "docker.io/library/base:1"
    assert state["imageID"].startswith("docker.io/library/base@sha256:")
    assert mounted()
    events = [each for each in cluster.items(EVENTS) if each["involvedObject"]["name"] == "runs"]
    said = 'Container image "base:1" already present on machine and can be accessed by the pod'
    assert said in [each["message"] for each in events]
    cluster.delete(PODS, "runs", gracePeriodSeconds=0)


def test_what_a_layer_takes_away_is_gone_and_the_most_layers_work(
    cluster: LocalCluster, tmp_path: Path, root: Path
) -> None:
    layers = [
        busybox_layer(root), layer(("d/a", b"a"), ("d/b", b"b"), ("e/old", b"old"), ("f", b"f")),
        layer(("d/.wh.a", b""), ("e/.wh..wh..opq", b""), ("e/new", b"new"), (".wh.f", b"")),
    ]  # fmt: skip
    layers += [layer((f"n/{number}", b"x")) for number in range(MOST - len(layers))]
    loaded(cluster, tmp_path, oci_image(layers), "deep:1")
    script = "ls d; ls e; test -e /f || echo no f; set -- n/*; echo $#"
    said = ended(cluster, "deep", image="deep:1", command=["sh", "-c", script])
    assert said == ["b", "new", "no f", str(MOST - 3)]
    cluster.nodeport("image", "rm", "deep:1")


def test_layers_are_shared_and_stay_until_their_last_container_has_ended(
    cluster: LocalCluster, tmp_path: Path, root: Path
) -> None:
    base, one, two = busybox_layer(root), layer(("who", b"one")), layer(("who", b"two"))
    loaded(cluster, tmp_path, oci_image([base, one]), "one:1")
    loaded(cluster, tmp_path, oci_image([base, two]), "two:1")
    assert on_disk(cluster, base, one, two) == [True, True, True]
    cluster.pod("holds", image="one:1", command=["sh", "-c", "sleep 1000"])
    cluster.wait_for_pod("holds", lambda pod: pod["status"].get("phase") == "Running", "it runs")
    assert "1 of its layers stay" in cluster.nodeport("image", "rm", "one:1")
    assert "2 of its layers stay" in cluster.nodeport("image", "rm", "two:1")
    assert on_disk(cluster, base, one, two) == [True, True, False]
    kubectl = StreamingKubectl(kubectl_program("newest"), cluster.kubeconfig)
    assert kubectl.out("exec", "holds", "--", "cat", "/who") == "one"
    cluster.delete(PODS, "holds", gracePeriodSeconds=0)


def messages(cluster: LocalCluster, pod: str) -> list[str]:
    return [each["message"] for each in cluster.items(EVENTS) if each["involvedObject"]["name"] == pod]


def test_a_pod_pulls_its_image_and_tells_of_it(
    cluster: LocalCluster, running: RunningRegistry, root: Path
) -> None:
    running.push("demo/app", "1", [busybox_layer(root)], Cmd=["/bin/echo", "pulled"])
    for pod, name in (("whole", f"{running.host}/demo/app:1"), ("short", "demo/app:1")):
        assert ended(cluster, pod, image=name) == ["pulled"]
        wait_for(lambda pod=pod: len(messages(cluster, pod)) >= 5, "its events")
        said = messages(cluster, pod)
        assert f'Pulling image "{name}"' in said
        assert any(each.startswith(f'Successfully pulled image "{name}" in ') for each in said), said
    assert ended(cluster, "again", image="demo/app:1") == ["pulled"]
    wait_for(
        lambda: any('"demo/app:1" already present on machine' in said for said in messages(cluster, "again")),
        "it",
    )
    cluster.pod("none", image="demo/app:2")
    cluster.wait_for_pod("none", lambda pod: "404 (MANIFEST_UNKNOWN" in str(pod["status"]), "the reason")
    cluster.delete(PODS, "none", gracePeriodSeconds=0)


def test_an_image_that_is_removed_under_a_running_pod_does_not_hinder_the_next_nodes_process(
    cluster: LocalCluster, root: Path, tmp_path: Path
) -> None:
    loaded(cluster, tmp_path, oci_image([busybox_layer(root), layer(("mine", b"x"))]), "gone:1")
    cluster.pod("stays", image="gone:1", command=["/bin/sleep", "1000"])
    pod = cluster.wait_for_pod("stays", lambda pod: pod["status"].get("phase") == "Running", "it runs")
    cluster.nodeport("image", "rm", "gone:1")
    cluster.kill("nodes")
    cluster.up()
    cluster.pod("after", image="base:1", command=["sleep", "1000"])
    cluster.wait_for_pod("after", lambda pod: pod["status"].get("phase") == "Running", "it runs")
    kubectl = StreamingKubectl(kubectl_program("newest"), cluster.kubeconfig)
    assert kubectl.out("exec", "stays", "--", "cat", "/mine") == "x"
    again = cluster.get(PODS, "stays")["status"]["containerStatuses"][0]
    assert again["containerID"] == pod["status"]["containerStatuses"][0]["containerID"]
    for name in ("stays", "after"):
        cluster.delete(PODS, name, gracePeriodSeconds=0)
