"""Finds a real registry for tests, and prints the path of its program.

python tools/registry.py

Debian's docker-registry is fetched and unpacked into ``.cache/registry``; it is not installed, since that would
start it as a service of the machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "docker-registry"
CACHE = ROOT / ".cache" / "registry"


def main() -> int:
    print(shutil.which(PACKAGE) or fetched())
    return 0


def fetched() -> Path:
    program = CACHE / "usr/bin" / PACKAGE
    if not program.exists():
        CACHE.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as scratch:
            download(Path(scratch))
            (archive,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", str(archive), f"{scratch}/unpacked"], check=True)
            shutil.rmtree(CACHE, ignore_errors=True)
            Path(scratch, "unpacked").rename(CACHE)
    return program


def download(folder: Path) -> None:
    """Once more with a fresh index when the first try fails."""
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE]
    if subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False).returncode:
        subprocess.run(["apt-get", "-qq", "update"], stdout=sys.stderr, check=True)
        subprocess.run(command, cwd=folder, stdout=sys.stderr, check=True)


if __name__ == "__main__":
    sys.exit(main())
