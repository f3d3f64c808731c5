"""``nodeport proxy`` as a process of its own, against a real API server, programming a namespace of a topology."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodeport.netlink.namespace import open_in

NODE = "n1"
QUICK = (
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0s",
    "--conntrack-tcp-timeout-close-wait=0s",
)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ProxyCommand:
    """``flags`` come after those that every test needs. ``wrapper`` goes before the program."""

    netns: Path
    log: Path
    flags: Sequence[str]
    wrapper: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def arguments(self, *words: str) -> list[str]:
        own = (f"--network-namespace={self.netns}", f"--hostname-override={NODE}", *QUICK)
        return [
            *self.wrapper,
            str(Path(sys.executable).with_name("nodeport")),
            "proxy",
            *own,
            *self.flags,
            *words,
        ]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments(), stderr=log, stdout=log, env={**os.environ, **self.environment}
            )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The same command with more flags or a word, to its end."""
        return subprocess.run(self.arguments(*words), capture_output=True, text=True, timeout=60)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    def ended(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def ask(
        self, port: int, path: str, *, host: str = "127.0.0.1", method: str = "GET", **headers: str
    ) -> Answer:
        """A real HTTP request from inside the namespace. OSError when nobody answers."""
        made = open_in(self.netns, lambda: socket.create_connection((host, port), timeout=20))
        connection = http.client.HTTPConnection(host, port)
        connection.sock = made
        with contextlib.closing(connection):
            connection.request(
                method, path, headers={name.replace("_", "-"): text for name, text in headers.items()}
            )
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), dict(answer.headers))

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Waits for the command to get there; says what its log says when it does not."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            with contextlib.suppress(OSError):
                if await asyncio.to_thread(condition):
                    return
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not in {seconds} s: {what}\n{self.log.read_text()[-4000:]}")
            await asyncio.sleep(0.05)

    async def until_healthy(self) -> None:
        """Programmed at least once."""
        await self.until(
            lambda: (
                b"kubeproxy_sync_proxy_rules_last_timestamp_seconds{" in self.ask(10249, "/metrics").body
                and self.ask(10256, "/healthz").status == 200
            ),
            "the proxy serves and has programmed the kernel",
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.start()
        try:
            await self.until_healthy()
            yield
        finally:
            if self.process is not None and self.process.poll() is None:
                self.stop()
