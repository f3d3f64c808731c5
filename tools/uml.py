"""Runs a command in a kernel that has IPVS: in this one if it does, else in User-mode Linux.

    python tools/uml.py run [--write FOLDER]... COMMAND...   exit status is COMMAND's; 3: there is no such kernel
    python tools/uml.py which                                says which kernel that would be
    python tools/uml.py build                                makes one out of Debian's linux-source, about 10 minutes

The kernel is an ordinary program. Its root is this machine's ``/``, read-only; COMMAND runs as root in the same folder
with the same environment, on one CPU, with a network of its own that leads nowhere and one hierarchy of cgroups (v2).
``/run``, ``/dev/shm`` and what TMPDIR names are fresh memory; ``--write`` makes a folder writable. In order of
preference: ``NODEPORT_UML`` (a path), the kernel that stands beside the checkout, one that ``build`` made and cached.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "uml"
BUILT = CACHE / "linux"
BESIDE = ROOT.parent / "shared" / "uml"
FRAGMENT = ROOT / "tools" / "uml.config"
NO_KERNEL = 3
PACKAGES = ("gcc", "make", "flex", "bison", "m4", "bc", "xz-utils", "libc6-dev")
_MEMORY = "1G"
_POWER_OFF = "import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)"


def host_has_ipvs() -> bool:
    """Asking for the family loads its module where there is one."""
    from nodeport.netlink.codec import NetlinkError
    from nodeport.netlink.ipvs.kernel import Ipvs

    try:
        with Ipvs():
            return True
    except (NetlinkError, OSError):
        return False


def user_mode_kernel() -> Path | None:
    """The first of the kernels that is there. Raises SystemExit when the variable names none."""
    named = os.environ.get("NODEPORT_UML")
    if named:
        if not os.access(named, os.X_OK):
            raise SystemExit(f"NODEPORT_UML={named}: not a program; it must be a User-mode Linux kernel")
        return Path(named)
    return next((path for path in (*sorted(BESIDE.glob("linux-uml-*")), BUILT) if path.exists()), None)


def run(command: Sequence[str], writable: Sequence[Path]) -> int:
    if host_has_ipvs():
        print(f"IPVS in this machine's own kernel, {os.uname().release}", file=sys.stderr)
        return subprocess.run(command).returncode
    kernel = user_mode_kernel()
    if kernel is None:
        print(
            "not run: this machine's kernel has no IPVS, and there is no User-mode Linux kernel; "
            "name one with NODEPORT_UML=/path/to/linux, or make one with: make uml-kernel",
            file=sys.stderr,
        )
        return NO_KERNEL
    print(f"IPVS in User-mode Linux, {kernel}", file=sys.stderr)
    return run_in(kernel, command, writable)


def run_in(kernel: Path, command: Sequence[str], writable: Sequence[Path]) -> int:
    """Boots ``kernel``, runs ``command`` in it, passes its output on; returns its exit status."""
    with tempfile.TemporaryDirectory(prefix="nodeport-uml-") as name:
        folder = Path(name)
        (folder / "init").write_text(init_script(folder, command, writable))
        (folder / "init").chmod(0o755)
        arguments = [
            str(kernel), f"mem={os.environ.get('NODEPORT_UML_MEMORY', _MEMORY)}", "seccomp=auto",
            "rootfstype=hostfs", "rootflags=/", "ro", "con=null", "con0=null,fd:1", "quiet", f"init={folder}/init",
        ]  # fmt: skip
        environment = {**os.environ, "TMPDIR": _executable_memory()}
        with subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        ) as booted:
            try:
                _pass_on(booted)
            finally:
                booted.terminate()
        try:
            return int((folder / "status").read_text())
        except (OSError, ValueError):
            print(f"the kernel ended without a result (its status: {booted.returncode})", file=sys.stderr)
            return 1


def _pass_on(booted: subprocess.Popen[bytes]) -> None:
    """Everything but the kernel's last words."""
    assert booted.stdout is not None
    for line in booted.stdout:
        if not line.startswith(b"reboot: Power down"):
            sys.stdout.buffer.write(line)
            sys.stdout.flush()


def init_script(folder: Path, command: Sequence[str], writable: Sequence[Path]) -> str:
    """What the kernel starts as its first process; it leaves the exit status in ``folder``."""
    kept = {key: value for key, value in os.environ.items() if key.isidentifier() and key != "TMPDIR"}
    if not sys.stdout.isatty():
        kept["NO_COLOR"] = "1"  # the console inside is always a terminal
    exports = "\n".join(f"export {key}={shlex.quote(value)}" for key, value in kept.items())
    mounts = "\n".join(_mount("hostfs", path, path) for path in writable)
    return f"""#!/bin/sh
{exports}
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run; mkdir -p /run/netns /run/lock /run/tmp /run/result; export TMPDIR=/run/tmp
export HYPOTHESIS_STORAGE_DIRECTORY=/run/tmp/hypothesis
{_mount("hostfs", folder, Path("/run/result"))}
mkdir -p /dev/shm /dev/pts; mount -t tmpfs -o mode=1777 tmpfs /dev/shm; mount -t devpts devpts /dev/pts
{mounts}
ip link set lo up
cd {shlex.quote(str(Path.cwd()))}
{shlex.join(command)} </dev/null >/dev/console 2>&1
echo $? >/run/result/status; sync
exec {shlex.quote(sys.executable)} -IS -c {shlex.quote(_POWER_OFF)}
"""


def _mount(kind: str, source: Path, target: Path) -> str:
    return f"mount -t {kind} -o {shlex.quote(str(source))} {kind} {shlex.quote(str(target))}"


def _executable_memory() -> str:
    """The kernel's memory is a file that must be mapped executable."""
    return "/dev/shm" if os.statvfs("/dev/shm").f_flag & os.ST_NOEXEC == 0 else tempfile.gettempdir()


def build() -> Path:
    """Makes a kernel out of the newest ``linux-source`` that this Debian offers, with our configuration."""
    if BUILT.exists():
        return BUILT
    source = max(_sources_offered(), key=_version)
    subprocess.run(
        ["apt-get", "-q", "install", "-y", "--no-install-recommends", *PACKAGES, source], check=True
    )
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        with tarfile.open(Path("/usr/src") / f"{source}.tar.xz") as archive:
            archive.extractall(name)
        tree = Path(name) / source
        _give_room_to_registers(tree)
        make = ["make", "-s", "ARCH=um"]
        merge = ["scripts/kconfig/merge_config.sh", "-m", ".config", str(FRAGMENT)]
        jobs = f"-j{os.cpu_count() or 1}"
        for step in ([*make, "x86_64_defconfig"], merge, [*make, "olddefconfig"], [*make, jobs, "linux"]):
            subprocess.run(step, cwd=tree, check=True)
        shutil.move(tree / "linux", BUILT.with_suffix(".new"))
    BUILT.with_suffix(".new").rename(BUILT)
    return BUILT


def _sources_offered() -> list[str]:
    found = subprocess.run(
        ["apt-cache", "pkgnames", "linux-source-"], capture_output=True, text=True, check=True
    )
    names = [name for name in found.stdout.split() if re.fullmatch(r"linux-source-\d+\.\d+", name)]
    if not names:
        raise SystemExit("no Debian package linux-source-N.N is offered here (apt-get update?)")
    return names


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))


def _give_room_to_registers(tree: Path) -> None:
    """Before 6.13 the register state has a fixed size, and a CPU with more of it (AMX) refuses to take it back."""
    offsets = tree / "arch/x86/um/user-offsets.c"
    text = offsets.read_text()
    offsets.write_text(text.replace("DEFINE_LONGS(HOST_FP_SIZE, 2696)", "DEFINE_LONGS(HOST_FP_SIZE, 12288)"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("--write", action="append", type=Path, default=[])
    running.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("which")
    verbs.add_parser("build")
    return parser.parse_args()


def _end(number: int, _: object) -> NoReturn:
    """The way out that takes the kernel and its files along."""
    raise SystemExit(128 + number)


def main() -> int:
    signal.signal(signal.SIGTERM, _end)
    arguments = _arguments()
    match arguments.verb:
        case "run":
            return run(arguments.command, [path.resolve() for path in arguments.write])
        case "which":
            print("this machine's own" if host_has_ipvs() else user_mode_kernel() or "none")
        case "build":
            print(build())
    return 0


if __name__ == "__main__":
    sys.exit(main())
