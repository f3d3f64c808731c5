"""What names mean on this machine: its resolv.conf and its hosts file."""

from __future__ import annotations

from pathlib import Path

from nodeport.node.podfiles import NodeNaming, parse_resolver

SYSTEMD_RESOLVER = "/run/systemd/resolve/resolv.conf"
STUB = "127.0.0.53"
"""systemd's own resolver, which nobody reaches from another network namespace: its file says whom it asks."""


def of_machine(name: str, cluster_dns: tuple[str, ...], root: Path = Path("/")) -> NodeNaming:
    resolver = parse_resolver(_text(root / "etc/resolv.conf"))
    if resolver.nameservers == (STUB,):
        behind = parse_resolver(_text(root / SYSTEMD_RESOLVER.lstrip("/")))
        resolver = behind if behind.nameservers else resolver
    return NodeNaming(name, cluster_dns, resolver, _text(root / "etc/hosts"))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
