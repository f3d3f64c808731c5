"""What the values of kube-proxy's flags look like, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from nodeport.api.duration import parse_duration
from nodeport.api.ip import sloppy_ip
from nodeport.api.kubeproxy.types import Duration, VModule


@dataclass(frozen=True, slots=True)
class Form:
    """``name``: as help shows it. ``read``: from text; ValueError says what is allowed."""

    name: str
    read: Callable[[str], Any]


def _boolean(text: str) -> bool:
    """Go's ``strconv.ParseBool``."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError("must be true or false")


def _int32(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError as error:
        raise ValueError("must be a whole number") from error
    if not -(2**31) <= number < 2**31:
        raise ValueError("must fit into 32 bits")
    return number


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError("must be a number") from error


def _duration(text: str) -> Duration:
    return Duration(microseconds=parse_duration(text) // timedelta(microseconds=1))


def _texts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _gates(text: str) -> dict[str, bool]:
    gates: dict[str, bool] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"missing bool value for {name}")
        gates[name.strip()] = _boolean(value.strip())
    return gates


def _ip(text: str) -> str:
    if sloppy_ip(text.strip()) is None:
        raise ValueError("must be an IP address")
    return text.strip()


def _ip_port(text: str) -> str:
    """Empty switches off; a missing port is filled in later."""
    text = text.strip()
    host, _, port = text.rpartition(":")
    has_port = port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535 and _is_ip(host)
    if text and not has_port and not _is_ip(text):
        raise ValueError("must be an IP address, with or without :port")
    return text


def _is_ip(text: str) -> bool:
    return sloppy_ip(text.removeprefix("[").removesuffix("]")) is not None


def _vmodules(text: str) -> tuple[VModule, ...]:
    made = []
    for part in filter(None, text.split(",")):
        pattern, equals, level = part.partition("=")
        if not equals or not level.isdecimal():
            raise ValueError("must be a list of pattern=N")
        made.append(VModule(filePattern=pattern, verbosity=int(level)))
    return tuple(made)


BOOL: Final = Form("BOOLEAN", _boolean)
INT: Final = Form("INTEGER", _int32)
FLOAT: Final = Form("NUMBER", _float)
TEXT: Final = Form("TEXT", str)
DURATION: Final = Form("DURATION", _duration)
TEXTS: Final = Form("LIST", _texts)
GATES: Final = Form("NAME=BOOLEAN,...", _gates)
IP: Final = Form("IP", _ip)
IP_PORT: Final = Form("IP:PORT", _ip_port)
VMODULES: Final = Form("PATTERN=N,...", _vmodules)
