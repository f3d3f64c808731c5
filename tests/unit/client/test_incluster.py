"""What a program in a pod learns from its environment and the ServiceAccount's mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeport.client.incluster import NotInCluster, load

ENVIRONMENT = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "ca.crt").write_text("PEM")
    return tmp_path


def test_the_token_is_read_again_each_time(mount: Path) -> None:
    assert load(ENVIRONMENT, mount).headers() == {"Authorization": "Bearer secret"}
    (mount / "token").write_text("newer")
    (mount / "namespace").write_text("kube-system\n")
    found = load(ENVIRONMENT, mount)
    assert (found.server, found.ca, found.token, found.namespace) == (
        "https://10.96.0.1:443", b"PEM", "newer", "kube-system"
    )  # fmt: skip


def test_an_ipv6_host_gets_its_brackets(mount: Path) -> None:
    assert (
        load({**ENVIRONMENT, "KUBERNETES_SERVICE_HOST": "fd00::1"}, mount).server == "https://[fd00::1]:443"
    )


@pytest.mark.parametrize("missing", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
def test_outside_a_cluster_it_says_so_in_client_gos_words(mount: Path, missing: str) -> None:
    with pytest.raises(NotInCluster, match="must be defined"):
        load({**ENVIRONMENT, missing: ""}, mount)


@pytest.mark.parametrize("damage", ["token", "ca.crt"])
def test_a_missing_file_is_named(mount: Path, damage: str) -> None:
    (mount / damage).unlink()
    with pytest.raises(NotInCluster, match=damage.replace(".", r"\.")):
        load(ENVIRONMENT, mount)


def test_an_empty_token_is_no_token(mount: Path) -> None:
    (mount / "token").write_text("\n")
    with pytest.raises(NotInCluster, match="token is empty"):
        load(ENVIRONMENT, mount)
