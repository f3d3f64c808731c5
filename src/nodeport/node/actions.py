"""What a probe or a lifecycle hook does, read from the container's spec. Pure.

Rule source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#lifecyclehandler-v1-core
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_HTTP_PORT = 80


@dataclass(frozen=True, slots=True)
class HttpGet:
    """``port``: a number, or the name of a port that the container does not have."""

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TcpSocket:
    port: int | str
    host: str = ""


@dataclass(frozen=True, slots=True)
class Grpc:
    port: int
    service: str = ""


@dataclass(frozen=True, slots=True)
class Exec:
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: int


Action = HttpGet | TcpSocket | Grpc | Exec | Sleep


def parse(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Action | None:
    """None when the spec names no action."""
    if http := spec.get("httpGet"):
        headers = tuple((item["name"], item.get("value", "")) for item in http.get("httpHeaders") or ())
        return HttpGet(
            port_number(http.get("port") or DEFAULT_HTTP_PORT, container), http.get("path") or "/",
            http.get("host") or "", http.get("scheme") or "HTTP", headers,
        )  # fmt: skip
    if tcp := spec.get("tcpSocket"):
        return TcpSocket(port_number(tcp["port"], container), tcp.get("host") or "")
    if grpc := spec.get("grpc"):
        return Grpc(grpc["port"], grpc.get("service") or "")
    if execute := spec.get("exec"):
        return Exec(tuple(execute.get("command") or ()))
    if sleep := spec.get("sleep"):
        return Sleep(sleep.get("seconds") or 0)
    return None


def port_number(port: int | str, container: Mapping[str, Any]) -> int | str:
    """A port by number or by the name it has in the container; the name itself when there is none of it."""
    if isinstance(port, int) or port.isdigit():
        return int(port)
    named = (item for item in container.get("ports") or () if item.get("name") == port)
    return next((item["containerPort"] for item in named), port)
