"""Python clients of Kubernetes, each in an environment of its own out of a locked list.

    python tools/pyclient.py kubernetes-37          prints the environment's Python, making it when it is not there yet

The lists are ``tests/clients/locks/<name>.lock``; the environments end up in ``.cache/clients/<name>``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "clients"
LOCKS = ROOT / "tests" / "clients" / "locks"
NAMES = sorted(path.stem for path in LOCKS.glob("*.lock"))


def client(name: str) -> Path:
    """The Python of the client's environment; it knows the lock that it was made of."""
    folder, lock = CACHE / name, LOCKS / f"{name}.lock"
    python, made_of = folder / "bin" / "python", folder / "made-of"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not made_of.exists() or made_of.read_bytes() != lock.read_bytes():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--no-deps",
                       "--only-binary=:all:", "--require-hashes", "-r", str(lock)]  # fmt: skip
            done = subprocess.run(command, stdout=sys.stderr, env={**os.environ, "PIP_NO_INPUT": "1"})
            if done.returncode:
                raise SystemExit(f"cannot install {name}")
            made_of.write_bytes(lock.read_bytes())
    return python


if __name__ == "__main__":
    word = sys.argv[1] if len(sys.argv) == 2 else ""
    if word not in [*NAMES, "all"]:
        raise SystemExit(f"usage: pyclient.py {'|'.join([*NAMES, 'all'])}")
    for each in NAMES if word == "all" else [word]:
        print(client(each))
