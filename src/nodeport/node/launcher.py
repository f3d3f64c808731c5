"""The parent of one container: sets it up, writes its log, and leaves its exit status in a file.

A program of its own, run as ``python -I -S launcher.py run|exec`` with the order (a marshalled dict) on stdin; it
imports little, so that it starts in some 20 ms and stays small, and it outlives the agent: an agent that comes back
after a kill finds the container running and takes it over.

``run``: the order has ``directory``, ``log``, ``argv``, ``env``, ``cwd``, ``uid``, ``gid``, ``mounts``.
``stdin``, ``stdin_once`` and ``tty`` are those of the container's spec; clients attach as `attachments` says.
The container gets its own PID and mount namespaces (network, UTS and IPC are those the launcher was started in). Files
written to ``directory``: ``running`` (``pid startedAt``) once the program runs, ``exit`` (``code finishedAt message``)
when it has ended; and at once ``launcher`` (its own PID). Descriptor 3 gets one line once the program runs or could not
be started; descriptor 4 is a locked file, whose lock lasts as long as the launcher.
``tells_ready``: the program inherits ``$READY_FD`` and closes it when it serves; only then does it count as running.
``blocks_term``: the program starts with SIGTERM blocked, so that one which comes early is not lost.
SIGTERM is passed on; SIGUSR1 kills the container; if the launcher dies, the kernel kills the container.

``exec``: ``pid`` (the container's first process), ``launcher`` (its parent) and ``argv``; runs the command inside and
ends with its exit code.

``session``: the same for a client that talks with the command, in a session of its own: its standard streams are
descriptors 4, 5 and 6, one terminal when the order says ``tty``. Descriptor 3 is a socket: why the command could not be
started is written to it; when its other end closes, every process of the command's session is killed.
"""

# ruff: noqa: PTH100, PTH103, PTH104, PTH110, PTH112, PTH114, PTH115, PTH116, PTH120, PTH123, PTH211, SIM105
# pathlib and contextlib would double the time that a container takes to start.

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would take 5 ms
    from typing import Any

    from nodeport.node.attachments import Attachments

    Order = dict[str, Any]
    Step = tuple[str, str, str]

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 2, 4, 8, 0x1000, 0x4000, 0x80000
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
SYS_MOUNT_SETATTR = 442
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
KEPT_CAPABILITIES = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29))
"""chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot audit_write."""
LAST_CAPABILITY = 63
READ_SIZE = 16384
LOG_LIMIT = 10 * 1024 * 1024
CANNOT_START = 128
KILLED_WAIT = 1.0
MOST_LINKS = 40
MOST_DESCRIPTORS = 1 << 20
TIOCSCTTY, TIOCSPTLCK, TIOCGPTPEER = 0x540E, 0x40045431, 0x5441
TTY_GROUP = 5


libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    check(libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()), target)


class MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def make_read_only(target: str) -> None:
    attr = MountAttr(ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, 0, 0, 0)
    result = libc.syscall(
        SYS_MOUNT_SETATTR, AT_FDCWD, target.encode(), AT_RECURSIVE, ctypes.byref(attr), ctypes.sizeof(attr)
    )
    check(result, target)


def make_parent(path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)


def make_mount_point(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, mode=0o755, exist_ok=True)
        return
    make_parent(target)
    if not os.path.lexists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def inside(root: str, target: str) -> str:
    """Where ``target`` is below ``root``, symbolic links on the way followed as the container would follow them.

    Without this, a mount point such as /var/run/x would be made on the host, where an absolute link leads.
    """
    path, todo, links = root, target.split("/")[::-1], 0
    while todo:
        part = todo.pop()
        if part == "..":
            path = path if path == root else os.path.dirname(path)
        elif part not in ("", "."):
            path = f"{path}/{part}"
            if os.path.islink(path):
                link = os.readlink(path)
                path = root if link.startswith("/") else os.path.dirname(path)
                todo += link.split("/")[::-1]
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), target)
    return path


def apply_mount(root: str, step: Step) -> None:
    """One step of the root file system: (kind, target, source or link or options)."""
    kind, target, detail = step
    path = f"{root}{target}" if kind == "link" else inside(root, target)
    if kind in ("ro", "rw", "dev"):
        make_mount_point(detail, path)
        mount(detail, path, "", MS_BIND | MS_REC)
        if kind == "ro":
            make_read_only(path)
    elif kind in ("protect", "mask"):
        hide(kind, path)
    elif kind == "link":
        make_parent(path)
        os.symlink(detail, path)
    else:
        os.makedirs(path, mode=0o755, exist_ok=True)
        if kind == "tmpfs":
            mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, detail)
        elif kind == "devpts":
            mount("devpts", path, "devpts", MS_NOSUID | MS_NOEXEC, detail)
        elif kind == "proc":
            mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def hide(kind: str, path: str) -> None:
    """Make a part of /proc unwritable (protect) or empty (mask), where the kernel has it."""
    if not os.path.exists(path):
        return
    if kind == "mask":
        mount("/dev/null", path, "", MS_BIND)
        return
    mount(path, path, "", MS_BIND | MS_REC)
    make_read_only(path)


def enter_root(order: Order) -> None:
    """Give the calling process its own mount namespace with nothing in it but ``mounts``."""
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_SLAVE)
    root = order["directory"] + "/root"
    os.makedirs(root, mode=0o755, exist_ok=True)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64m")
    for step in order["mounts"]:
        apply_mount(root, step)
    os.chdir(root)
    check(libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def drop_privileges(order: Order) -> None:
    for capability in range(LAST_CAPABILITY + 1):
        if capability not in KEPT_CAPABILITIES and libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break  # beyond the kernel's last one
    os.setgroups([])
    if order["gid"]:
        os.setresgid(order["gid"], order["gid"], order["gid"])
    if order["uid"]:
        os.setresuid(order["uid"], order["uid"], order["uid"])
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def run_program(order: Order) -> None:
    """Become the container's program; returns only by an exception."""
    os.umask(0o022)
    if order.get("blocks_term"):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    os.chdir(order["cwd"])
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    drop_privileges(order)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.execvpe(order["argv"][0], order["argv"], order["env"])


def start_error(order: Order, error: BaseException) -> str:
    """The words that a container's status shows for a program that could not be started."""
    if isinstance(error, FileNotFoundError) and "/" not in order["argv"][0]:
        return f'exec: "{order["argv"][0]}": executable file not found in $PATH'
    if isinstance(error, OSError):
        where = (error.filename and os.fsdecode(error.filename)) or f'exec "{order["argv"][0]}"'
        return f"{where}: {error.strerror}"
    return repr(error)


class Streams:
    """The container's standard streams. ``given``: what it has as 0, 1 and 2; the rest is ours.

    ``stdin`` and ``terminal`` are -1 where there is none; ``outputs``: channel and name in the log by descriptor. A
    terminal is opened by the container, which has it in its own /dev/pts, and sent to us over ``ours``.
    """

    def __init__(self, order: Order) -> None:
        self.stdin = self.terminal = -1
        self.outputs: dict[int, tuple[int, str]] = {}
        self.given: tuple[int, ...] = ()
        self.is_terminal, self.has_stdin = order["tty"], order["stdin"]
        if self.is_terminal:
            import _socket

            self.ours, self.theirs = _socket.socketpair()
            order["env"].setdefault("TERM", "xterm")
            return
        source = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        if self.has_stdin:
            source, self.stdin = os.pipe()
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        self.given = (source, out_end, err_end)
        self.outputs = {out: (1, "stdout"), err: (2, "stderr")}

    def give(self, order: Order) -> None:
        """In the container, which sees its own files already."""
        if self.is_terminal:
            slave = self.open_terminal(order["uid"])
            self.given = (slave, slave, slave)
        for number, source in enumerate(self.given):
            os.dup2(source, number)

    def open_terminal(self, owner: int) -> int:
        """Our controlling terminal, as the leader of a new session."""
        import fcntl
        import struct
        from _socket import SCM_RIGHTS, SOL_SOCKET

        flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
        master = os.open("/dev/pts/ptmx", flags)
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, TIOCGPTPEER, flags)
        os.fchown(slave, owner, TTY_GROUP)
        self.theirs.sendmsg([b"t"], [(SOL_SOCKET, SCM_RIGHTS, struct.pack("i", master))])
        os.close(master)
        os.setsid()
        fcntl.ioctl(slave, TIOCSCTTY, 0)
        return slave

    def take(self) -> None:
        """Outside: what was given is the container's alone; its terminal comes, unless it could not be opened."""
        for source in set(self.given):
            os.close(source)
        if not self.is_terminal:
            return
        import struct
        from _socket import CMSG_SPACE

        self.theirs.close()
        _, sent, _, _ = self.ours.recvmsg(1, CMSG_SPACE(4))
        if sent:
            (master,) = struct.unpack("i", sent[0][2])
            self.outputs = {master: (1, "stdout")}
            self.terminal = os.dup(master)
            self.stdin = os.dup(master) if self.has_stdin else -1
        self.ours.close()


def fork_container(order: Order, streams: Streams) -> tuple[int, int]:
    """Start the container's first process: its PID, and the pipe that closes when the program runs."""
    told, tell = os.pipe()
    check(libc.unshare(CLONE_NEWPID), "unshare")
    pid = os.fork()
    if pid:
        os.close(tell)
        return pid, told
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        enter_root(order)
        streams.give(order)
        if order.get("tells_ready"):
            os.set_inheritable(tell, True)
            order["env"]["READY_FD"] = str(tell)
        run_program(order)
    except BaseException as error:
        os.write(tell, start_error(order, error).encode())
    os._exit(CANNOT_START)


def timestamp() -> str:
    now = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"


class Log:
    """A log file in the CRI line format ``TIME STREAM F|P TEXT``; one older file is kept beside it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.pending: dict[str, bytes] = {}
        self.open()

    def open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.file = os.open(self.path, flags, 0o600)
        self.size = os.fstat(self.file).st_size

    def write(self, stream: str, data: bytes) -> None:
        data = self.pending.pop(stream, b"") + data
        lines = data.split(b"\n")
        rest = lines.pop()
        head = f"{timestamp()} {stream} ".encode()
        found = [head + b"F " + line + b"\n" for line in lines]
        if len(rest) >= READ_SIZE:
            found.append(head + b"P " + rest + b"\n")
        elif rest:
            self.pending[stream] = rest
        self.append(b"".join(found))

    def close_stream(self, stream: str) -> None:
        rest = self.pending.pop(stream, b"")
        if rest:
            self.append(f"{timestamp()} {stream} F ".encode() + rest + b"\n")

    def append(self, data: bytes) -> None:
        if not data:
            return
        if self.size and self.size + len(data) > LOG_LIMIT:
            os.close(self.file)
            os.rename(self.path, self.path + ".1")
            self.open()
        try:
            self.size += os.write(self.file, data)
        except OSError:
            pass  # a full disk must not end the container


def write_file(directory: str, name: str, text: str) -> None:
    """Write at once or not at all."""
    path = directory + "/" + name
    file = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.write(file, text.encode())
    os.close(file)
    os.rename(path + ".new", path)


def pump(pidfd: int, streams: dict[int, tuple[int, str]], log: Log, attachments: Attachments) -> None:
    """Copy output to the log and to clients until the container has ended and its pipes are empty."""
    poll = attachments.poll
    poll.register(pidfd, select.POLLIN)
    ended, held = None, True
    while ended is None or (streams and time.monotonic() < ended + KILLED_WAIT):
        if held is not attachments.is_full:  # whoever does not read holds the container back
            held = not held
            for source in streams:
                poll.unregister(source) if held else poll.register(source, select.POLLIN)
        for source, events in poll.poll(None if ended is None and not held else 100):
            if source == pidfd:
                poll.unregister(pidfd)
                ended = time.monotonic()
            elif source not in streams:
                attachments.handle(source, events)
            elif not held and not copy_output(source, streams[source], log, attachments):
                poll.unregister(source)
                log.close_stream(streams.pop(source)[1])
        attachments.drop_stuck()


def copy_output(source: int, stream: tuple[int, str], log: Log, attachments: Attachments) -> bool:
    """Whether there may be more."""
    channel, name = stream
    try:
        data = os.read(source, READ_SIZE)
    except OSError:  # EIO: nobody has the terminal open any more
        return False
    if data:
        log.write(name, data)
        attachments.output(channel, data)
    return bool(data)


def tell_agent() -> None:
    try:
        os.write(3, b"\n")
        os.close(3)
    except OSError:
        pass  # the agent is gone; it will read the file


def run(order: Order) -> None:
    directory = order["directory"]
    os.set_inheritable(3, False)
    os.set_inheritable(4, False)
    write_file(directory, "launcher", str(os.getpid()))
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from nodeport.node.attachments import Attachments

    streams = Streams(order)
    log = Log(order["log"])
    pid, told = fork_container(order, streams)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(pid, signal.SIGTERM))
    signal.signal(signal.SIGUSR1, lambda number, frame: os.kill(pid, signal.SIGKILL))
    streams.take()
    attachments = Attachments(directory, streams.stdin, streams.terminal, once=order["stdin_once"])
    trouble = os.read(told, 4096).decode()
    if trouble:
        os.waitpid(pid, 0)
        write_file(directory, "exit", f"{CANNOT_START} {timestamp()} {trouble}")
        tell_agent()
        return
    write_file(directory, "running", f"{pid} {timestamp()}")
    tell_agent()
    pump(os.pidfd_open(pid), streams.outputs, log, attachments)
    ended = os.waitid(
        os.P_PID, pid, os.WEXITED | os.WNOWAIT
    )  # reaped with us: until then nobody gets its number
    assert ended is not None
    code = ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status
    write_file(directory, "exit", f"{code} {timestamp()} ")
    attachments.finish()


def join_container(order: Order) -> None:
    """Enter the container, and add to the order what its first process has: environment, user and directory."""
    pid = order["pid"]
    container = os.pidfd_open(pid)
    if parent_of(pid) != order["launcher"]:  # it has ended, and its number may be anybody's
        raise ProcessLookupError(errno.ESRCH, "the container has ended")
    with open(f"/proc/{pid}/environ", "rb") as file:
        pairs = [item.partition(b"=") for item in file.read().split(b"\0") if item]
    owner = os.stat(f"/proc/{pid}")
    order.update(
        env={os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs},
        uid=owner.st_uid, gid=owner.st_gid, cwd=os.readlink(f"/proc/{pid}/cwd"),
    )  # fmt: skip
    libc.prctl(
        PR_SET_DUMPABLE, 0, 0, 0, 0
    )  # until its own program runs, nobody inside may look into this process
    kinds = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC
    check(libc.setns(container, kinds), "setns")


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def execute(order: Order) -> None:
    """Run a command in the container."""
    join_container(order)
    child = os.fork()
    if not child:
        try:
            run_program(order)
        except BaseException as error:
            os.write(2, start_error(order, error).encode() + b"\n")
        os._exit(126)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def converse(order: Order) -> None:
    """Run a command in the container for the client behind descriptor 3, and end with its exit code."""
    for number in (3, 4, 5, 6):
        os.set_inheritable(number, False)
    processes = os.open("/proc", os.O_RDONLY | os.O_CLOEXEC)  # the host's, with the host's numbers
    told, tell = os.pipe()
    try:
        join_container(order)
        child = os.fork()
    except OSError as error:
        os.write(3, start_error(order, error).encode())
        os._exit(CANNOT_START)
    if not child:
        try:
            begin_session(order)
        except BaseException as error:
            os.write(tell, start_error(order, error).encode())
        os._exit(CANNOT_START)
    for number in (tell, 4, 5, 6):
        os.close(number)
    if trouble := os.read(told, 4096):
        os.write(3, trouble)
    poll = select.poll()
    poll.register(os.pidfd_open(child), select.POLLIN)
    poll.register(3, select.POLLIN)
    if any(source == 3 for source, _ in poll.poll()):
        kill_session(processes, child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def begin_session(order: Order) -> None:
    """Become the command, the leader of a new session; returns only by an exception."""
    os.setsid()
    if order["tty"]:
        import fcntl

        fcntl.ioctl(4, TIOCSCTTY, 0)
        order["env"].setdefault("TERM", "xterm")
    for number in (0, 1, 2):
        os.dup2(number + 4, number)
    run_program(order)


def kill_session(processes: int, leader: int) -> None:
    """Kill all processes of the session; ``processes`` is an open /proc. Until a look finds no more of them."""
    found = True
    while found:
        found = False
        for name in os.listdir(processes):
            if name.isdigit() and session_of(processes, name) == leader:
                found = True
                try:
                    os.kill(int(name), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if found:
            time.sleep(0.002)


def session_of(processes: int, name: str) -> int:
    """The session of a process that still runs; 0 for others."""
    try:
        file = os.open(name + "/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=processes)
    except OSError:
        return 0
    try:
        fields = os.read(file, 4096).rpartition(b")")[2].split()
    except OSError:
        return 0
    finally:
        os.close(file)
    return 0 if fields[0] in b"ZX" else int(fields[3])


def main() -> None:
    first = 7 if sys.argv[1] == "session" else 5
    os.closerange(first, MOST_DESCRIPTORS)  # whatever the agent's own parents have left open
    order = marshal.loads(os.read(0, 1 << 26))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    if sys.argv[1] == "exec":
        execute(order)
    elif sys.argv[1] == "session":
        converse(order)
    else:
        run(order)


main()
