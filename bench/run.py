"""Runs every measurement of this folder, one process each; prints and asserts nothing.

python bench/run.py [NAME ...]        all of them, or those named
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SHARED = frozenset({"run", "served"})


def main() -> int:
    known = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in SHARED)
    names = sys.argv[1:] or known
    if unknown := [name for name in names if name not in known]:
        asked = {"-h", "--help"} & {*unknown}
        print("usage: python bench/run.py [NAME ...]", f"names: {', '.join(known)}", sep="\n")
        print("" if asked else f"unknown: {', '.join(unknown)}", end="" if asked else "\n", file=sys.stderr)
        return 0 if asked else 2
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}")
    failed = []
    for name in names:
        print(f"\n== {name} ==", flush=True)
        if subprocess.run([sys.executable, FOLDER / f"{name}.py"]).returncode:
            failed.append(name)
    if failed:
        print(f"\ndid not finish: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
