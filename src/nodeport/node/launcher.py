"""The parent of one container: has the runtime make it, writes its log, and leaves its exit status in a file.

A program of its own: ``run`` is forked off the `zygote`, ``session`` run as ``python -I -S launcher.py session``, the
order (a marshalled dict) on stdin. It imports little, so that it starts in some 20 ms and stays small, and it outlives
the agent: an agent that comes back after a kill finds the container running and takes it over.

``run``: the order has ``directory`` (with the container's ``config.json``), ``log``, ``log_limits`` (bytes of a file
and how many files), ``runtime`` (the beginning of the runtime's command line), ``id``, ``overlay`` (lower folders,
upper, work), ``stop_signal``, and ``stdin``, ``stdin_once`` and ``tty`` of the container's spec; clients attach as
`attachments` says. The root file system is mounted on ``directory/rootfs`` in a mount namespace that goes when the
runtime has made the container: nothing is left on the machine, however things end. The container's first process
becomes the launcher's child.
Files written to ``directory``: ``running`` (``pid startedAt``) once the program runs, ``exit`` (``code finishedAt
reason message``, reason - for none) when it has ended; and at once ``launcher`` (its own PID). Descriptor 3 gets one
line once the program runs or could not be started; descriptor 4 is a locked file, whose lock lasts as long as the
launcher. ``tells_ready``: the program inherits ``$READY_FD`` (3) and closes it when it serves; only then does it count
as running. SIGTERM is passed on, as the image's stop signal, once the program runs. SIGUSR1 kills all of the container.

``session``: a command beside the container's own for a client that talks with it, in a session of its own: ``process``
is what the runtime is to run, its standard streams are descriptors 4, 5 and 6. Descriptor 3 is a socket: ``t`` is
written to it once the command runs, and the terminal sent along when the order says ``tty``; or else why the command
could not be started, which the runtime has written to the command's stderr as well. When its other end closes, every
process of the command's session is killed. It ends with the command's exit code.
"""

# ruff: noqa: PTH100, PTH103, PTH104, PTH108, PTH120, PTH123, SIM105
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
    from nodeport.node.containerlog import ContainerLog

    Order = dict[str, Any]

CLONE_NEWNS = 0x00020000
MS_REC, MS_SLAVE = 0x4000, 0x80000
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
READ_SIZE = 16384
CANNOT_START = 128
FULL_DISK_WAIT = 0.2
KILLED, KILLED_WAIT = 137, 1.0
MOST_DESCRIPTORS = 1 << 20
CONSOLE = "console"
CONSOLE_WAIT = 2.0

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    check(libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()), target)


def mount_root(order: Order) -> None:
    """The container's root file system, seen by this process and what it starts."""
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", "", MS_REC | MS_SLAVE)
    lower, upper, work = order["overlay"]
    for folder in (upper, work, order["directory"] + "/rootfs"):
        os.makedirs(folder, mode=0o755, exist_ok=True)
    base, lower = shortened(lower)
    options = f"lowerdir={':'.join(map(escaped, lower))},upperdir={escaped(upper)},workdir={escaped(work)}"
    os.chdir(base)
    try:  # it is never mounted again: no need to have it on disk when it is unmounted
        mount("overlay", order["directory"] + "/rootfs", "overlay", 0, options + ",volatile")
    except OSError:
        mount("overlay", order["directory"] + "/rootfs", "overlay", 0, options)
    os.chdir(order["directory"])


def shortened(layers: list[str]) -> tuple[str, list[str]]:
    """A folder to be in, and the layers as seen from it: the kernel takes one page of options, which 127 must fit."""
    base = os.path.dirname(layers[0])
    if any(os.path.dirname(layer) != base for layer in layers):
        return "/", layers
    return base, [layer[len(base) :].lstrip("/") for layer in layers]


def escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


class Console:
    """Where the runtime sends a terminal to that it opened inside the container; ``directory`` is where we work."""

    def __init__(self, directory: str) -> None:
        import _socket

        os.chdir(directory)  # a socket's path may have 107 bytes, and the directory's has more
        self.name = f"{CONSOLE}.{os.getpid()}"
        self.listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        mask = os.umask(0o177)
        self.listener.bind(self.name)
        os.umask(mask)
        self.listener.listen(1)
        self.listener.settimeout(CONSOLE_WAIT)

    def take(self) -> int:
        """The terminal. Raises OSError when none came."""
        import _socket
        import struct

        try:
            number, _ = self.listener._accept()  # type: ignore[attr-defined]  # socket.accept's core
            connection = _socket.socket(fileno=number)
            connection.settimeout(CONSOLE_WAIT)
            _, sent, _, _ = connection.recvmsg(4096, _socket.CMSG_SPACE(4))
            connection.close()
            if not sent:
                raise OSError("the runtime sent no terminal")
            (terminal,) = struct.unpack("i", sent[0][2])
            os.set_inheritable(terminal, False)
            return int(terminal)
        finally:
            self.close()

    def close(self) -> None:
        self.listener.close()
        os.unlink(self.name)


class Streams:
    """The container's standard streams. ``given``: what it has as 0, 1 and 2; the rest is ours.

    ``stdin`` and ``terminal`` are -1 where there is none; ``outputs``: channel and name in the log by descriptor.
    """

    def __init__(self, order: Order) -> None:
        self.stdin = self.terminal = -1
        self.outputs: dict[int, tuple[int, str]] = {}
        self.console: Console | None = None
        self.has_stdin = order["stdin"]
        if order["tty"]:
            self.console = Console(order["directory"])
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            self.given = (null, null, null)
            return
        source = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        if self.has_stdin:
            source, self.stdin = os.pipe()
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        self.given = (source, out_end, err_end)
        self.outputs = {out: (1, "stdout"), err: (2, "stderr")}

    def release(self) -> None:
        """What was given is the container's alone."""
        for source in set(self.given):
            os.close(source)

    def take_terminal(self) -> None:
        """Once the container is there."""
        if self.console is None:
            return
        terminal = self.console.take()
        self.outputs = {terminal: (1, "stdout")}
        self.terminal = os.dup(terminal)
        self.stdin = os.dup(terminal) if self.has_stdin else -1


def call_runtime(argv: list[str], streams: tuple[int, ...]) -> None:
    """Become the runtime, with these standard streams and no other descriptor but the inheritable ones."""
    for number, source in enumerate(streams):
        os.dup2(source, number)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execv(argv[0], argv)


def make_container(order: Order, streams: Streams) -> tuple[str, int]:
    """Have the runtime make and start it: why it could not, or nothing; and a pipe that closes when it serves."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            mount_root(order)
            argv = [*order["runtime"], "run", "--detach", "--bundle", order["directory"], "--pid-file"]
            argv.append(order["directory"] + "/pid")
            if streams.console:
                argv += ["--console-socket", streams.console.name]
            if order["tells_ready"]:
                os.dup2(tell, 3)
                argv += ["--preserve-fds", "1"]
            call_runtime([*argv, order["id"]], streams.given)
        except BaseException as error:
            os.write(tell, str(error).encode())
        os._exit(CANNOT_START)
    os.close(tell)
    streams.release()
    _, status = os.waitpid(child, 0)
    if not status:
        return "", told
    said = os.read(told, 4096).decode()
    return said or last_error(order["directory"] + "/runtime.log"), told


def last_error(path: str) -> str:
    """The newest error of the runtime's own log, a line of JSON each."""
    import json

    found = "the runtime gave no reason"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                entry = json.loads(line)
                found = entry["msg"] if entry.get("level") in ("error", "fatal") else found
    except (OSError, ValueError, KeyError):
        pass
    return str(found)


def write_file(directory: str, name: str, text: str) -> None:
    """Write at once or not at all; a full disk is waited for, since nobody else knows what is to be written."""
    path = directory + "/" + name
    while True:
        try:
            file = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, text.encode())
            finally:
                os.close(file)
            os.rename(path + ".new", path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        time.sleep(FULL_DISK_WAIT)


def pump(
    pidfd: int, streams: dict[int, tuple[int, str]], log: ContainerLog, attachments: Attachments
) -> None:
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


def copy_output(source: int, stream: tuple[int, str], log: ContainerLog, attachments: Attachments) -> bool:
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


class Signals:
    """SIGTERM goes on to the container once it serves, SIGUSR1 kills it; what comes too early is done then."""

    def __init__(self, order: Order) -> None:
        self.pid, self.serves, self.early = 0, False, set[int]()
        self.stop = order["stop_signal"]
        self.kill = [*order["runtime"], "kill", "--all", order["id"], "KILL"]
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self.handle)

    def handle(self, number: int, frame: object) -> None:
        if number == signal.SIGUSR1 and self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.posix_spawn(self.kill[0], self.kill, {})  # with a shared PID namespace there are others
        elif number == signal.SIGTERM and self.serves:
            os.kill(self.pid, self.stop)
        else:
            self.early.add(number)

    def begin(self, pid: int, *, serves: bool) -> None:
        self.pid, self.serves = pid, serves
        early, self.early = self.early, set()
        for number in sorted(early):
            self.handle(number, None)


def reap_others(pid: int) -> None:
    """Those that came to us when their parents ended, while the container is there."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == pid:
            return
        os.waitpid(found.si_pid, 0)


def run(order: Order) -> None:
    directory = order["directory"]
    os.set_inheritable(3, False)
    os.set_inheritable(4, False)
    write_file(directory, "launcher", str(os.getpid()))
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from nodeport.node.attachments import Attachments
    from nodeport.node.containerlog import ContainerLog, timestamp

    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signals, streams = Signals(order), Streams(order)
    trouble, serves = make_container(order, streams)
    if trouble:
        write_file(directory, "exit", f"{CANNOT_START} {timestamp()} StartError {trouble}")
        tell_agent()
        forget(order)
    with open(directory + "/pid") as file:
        pid = int(file.read())
    signals.begin(pid, serves=False)
    streams.take_terminal()
    os.read(serves, 1)
    log = ContainerLog(order["log"], *order["log_limits"])
    attachments = Attachments(directory, streams.stdin, streams.terminal, once=order["stdin_once"])
    oom = oom_counter(pid)
    write_file(directory, "running", f"{pid} {timestamp()}")
    signals.begin(pid, serves=True)
    tell_agent()
    signal.signal(signal.SIGCHLD, lambda number, frame: reap_others(pid))
    pump(os.pidfd_open(pid), streams.outputs, log, attachments)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = code if code >= 0 else 128 - code
    reason = "OOMKilled" if code == KILLED and was_short_of_memory(oom) else "-"
    write_file(directory, "exit", f"{code} {timestamp()} {reason} ")
    attachments.finish()
    forget(order)


def forget(order: Order) -> None:
    """Become the runtime that takes away what is left of the container: cgroups, state, and strays."""
    null = os.open("/dev/null", os.O_RDWR)
    argv = [*order["runtime"], "delete", "--force", order["id"]]
    call_runtime(argv, (null, null, null))


def oom_counter(pid: int) -> str:
    """The file that counts how often the kernel killed for want of memory in the process's cgroup."""
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return ""
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            return f"/sys/fs/cgroup/memory{path}/memory.oom_control"
    return "".join(f"/sys/fs/cgroup{path}/memory.events" for _, controllers, path in lines if not controllers)


def was_short_of_memory(counter: str) -> bool:
    try:
        with open(counter) as file:
            words = [line.split() for line in file]
    except OSError:
        return False
    return any(pair[0] == "oom_kill" and pair[1] != "0" for pair in words)


def converse(order: Order) -> None:
    """Run a command in the container for the client behind descriptor 3, and end with its exit code."""
    for number in (3, 4, 5, 6):
        os.set_inheritable(number, False)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    processes = os.open("/proc", os.O_RDONLY | os.O_CLOEXEC)
    directory, name = order["directory"], f"command.{os.getpid()}"
    console = Console(directory) if order["tty"] else None
    os.chdir(directory)
    runtime = os.fork()
    if not runtime:
        begin_command(order, name, console)
    _, status = os.waitpid(runtime, 0)
    if status:
        tell_client(last_error(f"{name}.log").encode())
    pid = taken_pid(name)
    if pid and console:
        terminal = console.take()
        tell_client(b"t", terminal)
        os.close(terminal)
    elif pid:
        tell_client(b"t")
    elif console:
        console.close()
    for number in (4, 5, 6):
        os.close(number)
    if not pid:
        os._exit(CANNOT_START)
    poll = select.poll()
    poll.register(os.pidfd_open(pid), select.POLLIN)
    poll.register(3, select.POLLIN)
    if any(source == 3 for source, _ in poll.poll()):
        kill_session(processes, pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def begin_command(order: Order, name: str, console: Console | None) -> None:
    """Become the runtime that starts the command and leaves it to us."""
    try:
        memory = os.memfd_create("process", 0)
        os.write(memory, order["process"])
        runtime = [*order["runtime"], "--log", f"{name}.log", "--log-format", "json"]
        argv = [*runtime, "exec", "--detach", "--pid-file", name, "--process", f"/proc/self/fd/{memory}"]
        if console:
            argv += ["--console-socket", console.name]
        call_runtime([*argv, order["id"]], (4, 5, 6))
    finally:
        os._exit(CANNOT_START)


def taken_pid(name: str) -> int:
    """What the runtime wrote to its files, which go; 0 when there is no command."""
    pid = 0
    try:
        with open(name) as file:
            pid = int(file.read())
    except (OSError, ValueError):
        pass
    for file_name in (name, f"{name}.log"):
        try:
            os.unlink(file_name)
        except OSError:
            pass
    return pid


def tell_client(said: bytes, terminal: int = -1) -> None:
    """A client that has gone meanwhile is seen by whoever looks at descriptor 3 next."""
    import _socket
    import struct

    sent = [] if terminal < 0 else [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", terminal))]
    control = _socket.socket(fileno=os.dup(3))
    try:
        control.sendmsg([said], sent)
    except OSError:
        pass
    control.close()


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


def main(kind: str) -> None:
    libc.prctl(PR_SET_NAME, b"launcher", 0, 0, 0)
    first = 7 if kind == "session" else 5
    os.closerange(first, MOST_DESCRIPTORS)  # whatever the agent's own parents have left open
    order = marshal.loads(os.read(0, 1 << 26))
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    if kind == "session":
        converse(order)
    else:
        run(order)


if __name__ == "__main__":
    main(sys.argv[1])
