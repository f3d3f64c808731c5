"""The real kubectl, as a user runs it: with a terminal, with input, in the background."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tooling import tool

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 60.0


def kubectl_program(which: str) -> str:
    """``oldest`` or ``newest``."""
    return tool("kubectl", which)


@dataclass(frozen=True)
class Done:
    code: int
    out: bytes
    err: str


@dataclass(frozen=True)
class StreamingKubectl:
    """``extra``: environment, such as the switches that have it speak SPDY."""

    program: str
    kubeconfig: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        home = str(self.kubeconfig.parent)
        return {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(self.kubeconfig), **self.extra}

    def run(self, *words: str, stdin: bytes = b"") -> Done:
        done = subprocess.run(
            [self.program, *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def out(self, *words: str, stdin: bytes = b"") -> str:
        done = self.run(*words, stdin=stdin)
        assert done.code == 0, f"kubectl {' '.join(words)}: {done}"
        return done.out.decode()

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """In the background; killed at the end."""
        process = subprocess.Popen(
            [self.program, *words], env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, bufsize=0,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    @contextmanager
    def terminal(self, *words: str) -> Iterator[Terminal]:
        """Under a terminal of 100 columns and 40 rows."""
        pid, master = pty.fork()
        if not pid:
            os.execve(self.program, [self.program, *words], self.environment)
        found = Terminal(pid, master)
        try:
            found.resize(100, 40)
            yield found
        finally:
            found.close()


class Terminal:
    """What a user types and sees."""

    def __init__(self, pid: int, master: int) -> None:
        self._pid, self._master = pid, master
        self._code: int | None = None
        self.seen = ""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def answer(self, command: str) -> str:
        """Type a command; all that is on the screen a moment later."""
        self.type(f"{command}\r")
        self.read()
        return self.seen

    def wait_for(self, text: str) -> None:
        """Until the text is on the screen."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            assert self.read(), f"it ended without {text!r}: {self.seen!r}"

    def read(self) -> bool:
        """Take in what is on the screen now; False: the program has ended."""
        if not select.select([self._master], [], [], 1)[0]:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the program has ended
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)

    def code(self) -> int:
        """The exit code, once all output is read."""
        deadline = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < deadline, self.seen
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def close(self) -> None:
        if self._code is None:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._master)
