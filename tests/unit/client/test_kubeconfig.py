"""Kubeconfig files: reading as kubectl does, writing without harm to what others keep there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nodeport.client import kubeconfig
from nodeport.client.kubeconfig import KubeconfigError

FOREIGN = """
apiVersion: v1
kind: Config
current-context: 2026-01-01
clusters:
- name: prod
  cluster: {server: "https://prod:6443", certificate-authority: ca.pem}
contexts:
- name: 2026-01-01
  context: {cluster: prod, user: me, namespace: shop}
users:
- name: me
  user: {token: secret}
extensions: [{name: x, extension: {y: 1}}]
"""


def put(path: Path) -> None:
    kubeconfig.merge(
        path, name="nodeport", server="https://127.0.0.1:6443", ca=b"CA", cert=b"CERT", key=b"KEY"
    )


def test_a_merged_cluster_is_what_loading_finds(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config"
    put(path)
    config = kubeconfig.load(path)
    assert (config.server, config.ca) == ("https://127.0.0.1:6443", b"CA")
    assert (config.client_cert, config.client_key) == (b"CERT", b"KEY")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_merging_keeps_foreign_entries_and_becomes_current(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(FOREIGN)
    (tmp_path / "ca.pem").write_bytes(b"PROD")
    put(path)
    put(path)
    written = yaml.safe_load(path.read_text())
    assert written["current-context"] == "nodeport"
    assert [entry["name"] for entry in written["clusters"]] == ["prod", "nodeport"]
    assert written["extensions"] == [{"name": "x", "extension": {"y": 1}}]
    foreign = kubeconfig.load(path, "2026-01-01")
    assert (foreign.token, foreign.namespace, foreign.ca) == ("secret", "shop", b"PROD")


def test_removing_takes_out_only_our_entries(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(FOREIGN)
    put(path)
    kubeconfig.remove(path, "nodeport")
    written = yaml.safe_load(path.read_text())
    assert [entry["name"] for entry in written["users"]] == ["me"]
    assert written["current-context"] == ""


def test_removing_the_last_entry_removes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config"
    put(path)
    kubeconfig.remove(path, "nodeport")
    kubeconfig.remove(path, "nodeport")
    assert list(tmp_path.iterdir()) == []


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "config"
    link.symlink_to(real)
    put(link)
    assert link.is_symlink()
    assert real.is_file()


def test_of_several_files_the_first_that_knows_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    put(second)
    config = kubeconfig.load([first, second])
    assert config.server == "https://127.0.0.1:6443"


def test_a_locked_file_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "_LOCK_PATIENCE", 0.0)
    path = tmp_path / "config"
    (tmp_path / "config.lock").touch()
    with pytest.raises(KubeconfigError, match=r"config\.lock"):
        put(path)
    assert not path.exists()


_WITH_PROXY = (
    "{{current-context: x, contexts: [{{name: x, context: {{cluster: c}}}}], "
    "clusters: [{{name: c, cluster: {{server: 'https://s', proxy-url: '{}'}}}}]}}"
)


def test_a_proxy_is_part_of_how_a_cluster_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(_WITH_PROXY.format("http://u:p@proxy:3128"))
    assert kubeconfig.load(path).proxy == "http://u:p@proxy:3128"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "is no kubeconfig"),
        ("{", "cannot read"),
        ("{}", "names no current-context"),
        ("{current-context: x}", "has no context named 'x'"),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}], "
            "clusters: [{name: c, cluster: {server: s}}], users: [{name: u, user: {exec: {command: a}}}]}",
            "'exec' are not supported",
        ),
        (
            _WITH_PROXY.format("socks5://u:secret@p:1080"),
            "'socks5://p:1080': proxies of scheme 'socks5' are not supported",
        ),
        (_WITH_PROXY.format("https://p:3128"), "proxies of scheme 'https' are not supported, only of 'http'"),
        (_WITH_PROXY.format("ftp://p"), "unsupported scheme 'ftp', must be http, https, or socks5"),
        (_WITH_PROXY.format("p:3128"), "unsupported scheme 'p', must be http, https, or socks5"),
        (_WITH_PROXY.format("http://"), "names no host"),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: c}}], "
            "clusters: [{name: c, cluster: {server: 'ftp://s:6443'}}]}",
            'server "ftp://s:6443": unsupported protocol scheme "ftp", must be http or https',
        ),
        (_WITH_PROXY.format("http://p:port"), "could not parse"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(KubeconfigError, match=says):
        kubeconfig.load(path)


@pytest.mark.parametrize(
    ("said", "server"),
    [
        ("server: 'a:6443'", "http://a:6443"),
        ("server: 'a:6443', insecure-skip-tls-verify: true", "https://a:6443"),
        ("server: 'a:6443', certificate-authority-data: Q0E=", "https://a:6443"),
        ("server: 'http://a:6443', certificate-authority-data: Q0E=", "http://a:6443"),
    ],
)
def test_a_server_without_a_scheme_is_reached_as_what_was_said_about_tls_wants(
    tmp_path: Path, said: str, server: str
) -> None:
    path = tmp_path / "config"
    path.write_text(
        f"{{current-context: x, contexts: [{{name: x, context: {{cluster: c}}}}], clusters: [{{name: c, cluster: {{{said}}}}}]}}"
    )
    assert kubeconfig.load(path).server == server


def test_no_file_is_said_with_the_paths(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="no kubeconfig at"):
        kubeconfig.load(tmp_path / "missing")


def test_the_environment_lists_files(tmp_path: Path) -> None:
    assert kubeconfig.paths_from({"KUBECONFIG": f"{tmp_path}/a::{tmp_path}/b"}) == [
        tmp_path / "a",
        tmp_path / "b",
    ]
    assert kubeconfig.paths_from({"HOME": "/home/x"}) == [Path("/home/x/.kube/config")]
