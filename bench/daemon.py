"""The proxy as one installs it: ``nodeport proxy``, and kube-proxy beside it when ``KUBE_PROXY`` names its binary.

A kube-proxy without nftables mode runs in iptables mode, and one that only knows slices of a version that is no more
follows Endpoints: ours has a row in the same mode then.

Each starts in a network namespace of its own with an API server that has everything already. Programmed: when its own
metrics say so. In the kernel: when nf_tables announces an object with the new endpoint's address. CPU is user and
system time, which a busy machine changes less than wall time. Needs root; removes what it makes.

python bench/daemon.py [SERVICES ...]
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvloop

from latency import (
    APPEARING,
    CHANGES,
    NODE,
    WARM,
    appear,
    change,
    config_of,
    namespace,
    percentiles,
    resident,
    roll,
    started,
)
from nodeport.api.resources import ENDPOINT_SLICES, ENDPOINTS
from proxy import ROLLING, growth

SIZES = (1_000, 10_000)
PATIENCE = 120.0
METRICS = "http://127.0.0.1:10249/metrics"
PROGRAMMED = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
LATENCY = Path(__file__).with_name("latency.py")
OURS = str(Path(sys.executable).with_name("nodeport"))
PEER = "KUBE_PROXY"
FLAGS = ("--conntrack-max-per-core=0", "--conntrack-min=0")
IPTABLES = "--proxy-mode=iptables"
FEW_CHANGES = 20
"""In a mode that waits for a second between two commits, as is the default."""
HINT = ("iptables-nft", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
"""As the kubelet does, for the variant whose changes nf_tables announces."""
NO_SLICES = "--feature-gates=EndpointSliceProxying=false"
NFTABLES_SINCE = (1, 31)
SLICES_SINCE = (1, 21)
WIDTHS = (20, 10, 14, 8, 18, 20, 8, 20, 11, 8, 8)


class Failed(Exception):
    """A proxy did not do its work; one sentence."""


@dataclass(frozen=True)
class Row:
    """Seconds and MB; ``changes``: ms p50 / p99 as text; ``changing``: CPU seconds a change; ``appearing``: a new
    Service, as ``changes``; ``rolled`` and ``rolling``: one endpoint of each of many Services, the time and the CPU.
    """

    name: str
    services: int
    programmed: float
    cpu: float
    answered: str
    changes: str
    changing: float
    appearing: str
    rolled: float
    rolling: float
    memory: float

    def cells(self) -> list[str]:
        return [
            self.name, f"{self.services:,}", f"{self.programmed:.2f}", f"{self.cpu:.2f}",
            self.answered, self.changes, f"{self.changing * 1e3:.2f}", self.appearing,
            f"{self.rolled:.2f}", f"{self.rolling:.2f}", f"{self.memory:.0f}",
        ]  # fmt: skip


def kubeconfig(folder: Path, url: str, ca: str, cert: str, key: str) -> Path:
    """A file in JSON, which is YAML."""
    target = folder / "kubeconfig"
    cluster = {"server": url, "certificate-authority": ca}
    user = {"client-certificate": cert, "client-key": key}
    target.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": cluster}],
        "users": [{"name": "bench", "user": user}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    }))  # fmt: skip
    return target


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, with the programs that it ran."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def is_programmed(metrics: str) -> bool:
    """Whether a proxy's metrics tell of a time at which it had programmed everything."""
    lines = (line for line in metrics.splitlines() if line.startswith(PROGRAMMED))
    return any(float(line.split()[-1]) > 0 for line in lines)


def wait_until_programmed(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
            raise Failed(f"ended with status {process.returncode} and said: {said[0][:300]}")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(METRICS, timeout=5) as answer:
            if is_programmed(answer.read().decode()):
                return
        time.sleep(0.05)
    raise Failed(f"had not programmed everything after {PATIENCE:.0f} s")


@contextmanager
def running(words: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A proxy that ends with the block, however that ends."""
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(words, stdout=output, stderr=output)
        except OSError as error:
            raise Failed(f"cannot be started: {error.strerror}") from error
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(name: str, command: list[str], size: int, folder: Path) -> Row:
    """Inside the namespace."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if IPTABLES in command:
        subprocess.run(HINT, check=True)
    with started(str(LATENCY), folder, "serve", size, folder) as (_, access):
        config = kubeconfig(folder, *access)
        words = [*command, f"--kubeconfig={config}", f"--hostname-override={NODE}", *FLAGS]
        log = folder / "proxy.log"
        began = time.perf_counter()
        with running(words, log) as process:
            wait_until_programmed(process, log)
            programmed, cpu = time.perf_counter() - began, cpu_seconds(process.pid)
            time.sleep(1.0)  # what it does once, after the start
            settled = cpu_seconds(process.pid)
            followed = ENDPOINTS if NO_SLICES in command else ENDPOINT_SLICES
            count = FEW_CHANGES if IPTABLES in command else CHANGES
            found = uvloop.run(change(config_of(*access), None, size, followed, count))
            changing = (cpu_seconds(process.pid) - settled) / (WARM + count)
            appeared = uvloop.run(appear(config_of(*access), None, followed, min(count, APPEARING)))
            settled = cpu_seconds(process.pid)
            rolled = uvloop.run(roll(config_of(*access), None, min(size, ROLLING), followed))
            rolling = cpu_seconds(process.pid) - settled
            return Row(
                name, size, programmed, cpu, percentiles(found.answered), percentiles(found.seen),
                changing, percentiles(appeared), rolled, rolling, resident(process.pid),
            )  # fmt: skip


def measure_apart(name: str, command: list[str], size: int) -> Row | None:
    """In a namespace of its own; says why when there is no result."""
    with namespace(size) as netns, tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        words = [
            "ip",
            "netns",
            "exec",
            netns.name,
            sys.executable,
            __file__,
            "inside",
            name,
            str(size),
            folder,
        ]
        done = subprocess.run([*words, *command], stdout=subprocess.PIPE, text=True, timeout=5 * PATIENCE)
    if done.returncode:
        print(f"{name}, {size:,} Services: no result. {done.stdout.strip()}", flush=True)
        return None
    return Row(*json.loads(done.stdout))


def commands() -> dict[str, list[str]]:
    found = {"nodeport": [OURS, "proxy", "--proxy-mode=nftables"]}
    binary = os.environ.get(PEER)
    if not binary:
        print(f"the peer was not given ({PEER}=/path/to/kube-proxy)")
        return found
    version = version_of(binary)
    if version is None or version >= NFTABLES_SINCE:
        return {**found, "kube-proxy": [binary, "--proxy-mode=nftables"]}
    old = [] if version >= SLICES_SINCE else [NO_SLICES]
    return {
        **found,
        "nodeport, iptables": [OURS, "proxy", IPTABLES],
        "kube-proxy, iptables": [binary, IPTABLES, *old],
    }


def version_of(binary: str) -> tuple[int, int] | None:
    """Major and minor, as ``--version`` tells it; None when it tells nothing."""
    try:
        told = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10).stdout
    except OSError:
        return None
    found = re.search(r"v(\d+)\.(\d+)\.", told)
    if not found:
        return None
    print(f"the peer: {told.strip()}")
    return int(found[1]), int(found[2])


def show(cells: list[str]) -> None:
    print("".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True)), flush=True)


def main() -> None:
    sizes = [int(argument) for argument in sys.argv[1:]] or list(SIZES)
    there = commands()
    print("programmed: s from the start; then one endpoint after the other, ms p50 / p99 from the send:")
    print(f"{CHANGES} changes and {APPEARING} new Services, {FEW_CHANGES} in mode iptables.")
    print(f"Rolling: one endpoint of each of up to {ROLLING:,} Services, s until all are in the kernel.")
    show(["", "services", "programmed s", "CPU s", "answered", "in the kernel", "CPU ms", "one Service", "rolling s",
          "CPU s", "RSS MB"])  # fmt: skip
    rows: dict[str, list[Row]] = {name: [] for name in there}
    for size in sizes:
        for name, command in there.items():
            if row := measure_apart(name, command, size):
                rows[name].append(row)
                show(row.cells())
    for name, found in rows.items():
        if len(found) > 1:
            fits = (growth([(row.services, figure(row)) for row in found]) for figure in (
                lambda row: row.cpu, lambda row: row.changing, lambda row: row.memory))  # fmt: skip
            print("{}: exponents: start {:.2f}, one change {:.2f}, memory {:.2f}".format(name, *fits))


def inside(name: str, size: int, folder: Path, command: list[str]) -> int:
    try:
        row = measure(name, command, size, folder)
    except (Failed, TimeoutError) as error:
        print(str(error) or "the change never reached the kernel")
        return 1
    print(json.dumps([getattr(row, field) for field in Row.__dataclass_fields__]))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        sys.exit(inside(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:]))
    main()
