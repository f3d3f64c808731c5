"""A local cluster: ``up`` with 3, 20 and 100 nodes, to the first reply through a node port, and the processes' weight.

Needs root. The cluster is called bench and is removed at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NODEPORT = str(Path(sys.executable).with_name("nodeport"))
NAME = "bench"
SIZES = (3, 20, 100)
PATIENCE = 60.0


def nodeport(kubeconfig: Path, *words: str) -> str:
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    return subprocess.run(
        [NODEPORT, *words], env=environment, check=True, capture_output=True, text=True
    ).stdout


def until_reply(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.01)
    raise TimeoutError(url)


def weights() -> dict[str, float]:
    """Resident MB by part of the cluster."""
    found: dict[str, float] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            status = (process / "status").read_text()
        except OSError:
            continue
        name = next((word.decode() for word in words if word in (b"server", b"nodes")), "")
        if name and NAME.encode() in words:
            found[name] = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return found


def measure(size: int, kubeconfig: Path) -> None:
    began = time.monotonic()
    nodeport(kubeconfig, "up", "--name", NAME, "--nodes", str(size))
    ready = time.monotonic() - began
    nodeport(kubeconfig, "apply", "-f", str(ROOT / "examples" / "nodeport.yaml"))
    url = nodeport(kubeconfig, "service", "my-nodeport-service", "--url").splitlines()[-1]
    until_reply(url)
    reply = time.monotonic() - began
    memory = ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in sorted(weights().items()))
    print(f"{size:>3} nodes: ready after {ready:.2f} s, first reply after {reply:.2f} s; {memory}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        for size in SIZES:
            try:
                measure(size, kubeconfig)
            finally:
                nodeport(kubeconfig, "down", "--name", NAME)


if __name__ == "__main__":
    main()
