"""What the rows of the client table work with: one kubectl in one namespace of one cluster."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 60.0
POLL = 0.05
ECHO = "nodeport/echo"
POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sleeper", "labels": {"app": "sleeper"}},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {"name": "main", "image": ECHO, "command": ["sh", "-c", "echo started; exec sleep 1000"]},
        ],
    },
}  # fmt: skip


@dataclass(frozen=True)
class Kit:
    """``k("get", "svc")``: what kubectl printed, both streams; fails unless its exit code is ``code``."""

    program: Path
    kubeconfig: Path
    home: Path
    namespace: str
    version: str

    def command(self, *words: str) -> list[str]:
        return [str(self.program), f"--cache-dir={self.home}/cache", *words]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig), "TZ": "UTC",
            "TERM": "dumb",
        }  # fmt: skip

    def __call__(self, *words: str, stdin: str | bytes = "", code: int = 0, **environment: str) -> str:
        done = subprocess.run(
            self.command(*words), input=stdin.encode() if isinstance(stdin, str) else stdin,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90, check=False,
            env={**self.environment, **environment},
        )  # fmt: skip
        text = done.stdout.decode(errors="replace")
        assert done.returncode == code, f"kubectl {' '.join(words)}: exit code {done.returncode}: {text}"
        return text

    def json(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*words, "-o", "json"))
        return found

    def path(self, kind: str, name: str, path: str) -> str:
        return self("get", kind, name, "-o", f"jsonpath={{{path}}}")

    def endpoints(self, service: str) -> str:
        """The addresses behind a Service, blank separated; empty while there are none."""
        found = self("get", "endpointslices", "-l", f"kubernetes.io/service-name={service}", "-o",
                     "jsonpath={.items[*].endpoints[*].addresses[0]}")  # fmt: skip
        return found.strip()

    def apply(self, *objects: dict[str, Any]) -> str:
        return self("apply", "-f", "-", stdin=manifest(*objects))

    def at_least(self, version: str) -> bool:
        return self.version >= version

    def deployment(self, name: str = "web", replicas: int = 1) -> None:
        """A Deployment of the echo program."""
        self("create", "deployment", name, f"--image={ECHO}", f"--replicas={replicas}")
        self("rollout", "status", f"deployment/{name}", "--timeout=60s")

    def sleeper(self, **spec: Any) -> None:
        """A running pod ``sleeper`` that prints ``started``."""
        self.apply({**POD, "spec": {**POD["spec"], **spec}})  # type: ignore[dict-item]
        self("wait", "--for=condition=Ready", "pod/sleeper", "--timeout=60s")

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """kubectl in the background, ended afterwards."""
        process = subprocess.Popen(
            self.command(*words), env=self.environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def manifest(*objects: object) -> str:
    """One object, or a List of several: JSON that the oldest kubectl reads too."""
    if len(objects) == 1:
        return json.dumps(objects[0])
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def wait_for(check: Callable[[], Any], what: str) -> Any:
    """The first true answer of ``check``."""
    deadline = time.monotonic() + PATIENCE
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        time.sleep(POLL)
    return found


@dataclass(frozen=True)
class Row:
    """One use of a client. ``since`` and ``until``: the kubectl versions that know these words."""

    verb: str
    use: str
    steps: Callable[[Kit], None]
    since: str = "1.20"
    until: str = "9"

    @property
    def name(self) -> str:
        return self.steps.__name__.replace("_", "-")

    def fits(self, version: str) -> bool:
        return self.since <= version <= self.until


@dataclass
class Rows:
    found: list[Row] = field(default_factory=list)

    def row(
        self, verb: str, use: str, *, since: str = "1.20", until: str = "9"
    ) -> Callable[[Callable[[Kit], None]], Callable[[Kit], None]]:
        def keep(steps: Callable[[Kit], None]) -> Callable[[Kit], None]:
            self.found.append(Row(verb, use, steps, since, until))
            return steps

        return keep


ROWS = Rows()
row = ROWS.row
