"""Ports of this machine that are free, and stay so until they are used."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

GIVEN_AWAY = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""What the kernel takes the ports of outgoing connections from, and those of sockets that leave the choice to it."""
LEAST, MOST = 12_000, 30_000


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens at, and that the kernel gives to nobody by itself."""
    given = range(*map(int, GIVEN_AWAY.read_text().split()))
    rest = [port for port in range(LEAST, MOST) if port not in given] or list(given)
    while True:
        port = secrets.choice(rest)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
