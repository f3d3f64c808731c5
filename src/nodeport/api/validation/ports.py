"""Port numbers and names, as Services, containers, probes and endpoints share them."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.status import FieldError, invalid

PROTOCOLS = ("SCTP", "TCP", "UDP")


def validate_port(number: int, path: str) -> Iterator[FieldError]:
    return (invalid(path, number, why) for why in names.port_number(number))


def validate_port_reference(port: int | str, path: str) -> Iterator[FieldError]:
    """A number, or the name of a container's port."""
    complaints = names.port_name(port) if isinstance(port, str) else names.port_number(port)
    return (invalid(path, port, why) for why in complaints)
