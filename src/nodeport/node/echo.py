"""The program of the built-in image ``nodeport/echo``: tells who answered, where, and whom it saw.

A program of its own, run as ``python -I -S echo.py`` with few imports, so that a pod serves some 30 ms after its start.
On each port of ``$PORT`` (default 8080; several parted by commas) it serves TCP and UDP. A TCP connection that begins
like HTTP is served HTTP/1.1 with keep-alive; any other gets each of its lines back behind ``POD NODE CLIENT``; so does
each UDP datagram.

HTTP paths: ``/`` and any other: pod, node, client and path, as text, or as JSON with ``Accept: application/json`` or
``?format=json`` · ``/hostname`` · ``/clientip`` · ``/healthz`` · ``/readyz`` (503 once terminating) · ``/echo?msg=`` ·
``/header?key=`` · ``/exit?code=``.

SIGTERM ends it at once, or after ``$DELAY_SHUTDOWN`` seconds of further service.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would take 5 ms
    Answer = tuple[int, str, str]
    Peer = tuple[str, int]

POD = os.environ.get("POD_NAME") or os.uname().nodename
NODE = os.environ.get("NODE_NAME", "")
NAMESPACE = os.environ.get("POD_NAMESPACE", "")
ADDRESS = os.environ.get("POD_IP", "")
MAX_HEAD = 65536
MAX_BODY = 4 * 1024 * 1024
METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS ", b"TRACE ", b"CONNECT ")
REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 413: "Content Too Large", 503: "Service Unavailable"}


class State:
    """``ends``: when to stop (monotonic seconds), None while nobody asked; ``code``: the exit status then."""

    ends: float | None = None
    code = 0


def unquote(text: str) -> str:
    parts = text.replace("+", " ").encode().split(b"%")
    found = parts[0]
    for part in parts[1:]:
        try:
            found += bytes((int(part[:2], 16),)) + part[2:]
        except ValueError:
            found += b"%" + part
    return found.decode("utf-8", "replace")


def parse_query(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split("&") if item)
    return {unquote(key): unquote(value) for key, _, value in pairs}


def quoted(text: str) -> str:
    safe = (f"\\u{ord(char):04x}" if char in '"\\' or ord(char) < 32 else char for char in text)
    return '"' + "".join(safe) + '"'


def identity(method: str, target: str, client: str, server: str) -> tuple[tuple[str, str], ...]:
    return (
        ("pod", POD), ("namespace", NAMESPACE), ("node", NODE), ("address", ADDRESS), ("client", client),
        ("server", server), ("method", method), ("path", target),
    )  # fmt: skip


def answer(method: str, target: str, headers: dict[str, str], peer: str, own: str) -> Answer:
    """(status, content type, body) for one request."""
    path, _, raw = target.partition("?")
    query = parse_query(raw)
    plain = "text/plain; charset=utf-8"
    if path == "/healthz":
        return 200, plain, "ok"
    if path == "/readyz":
        return (200, plain, "ok") if State.ends is None else (503, plain, "terminating")
    if path in ("/hostname", "/hostName"):
        return 200, plain, POD
    if path == "/clientip":
        return 200, plain, peer
    if path == "/echo":
        return 200, plain, query.get("msg", "")
    if path == "/header":
        return 200, plain, headers.get(query.get("key", "").lower(), "")
    if path == "/exit":
        code = query.get("code", "0")
        State.ends, State.code = time.monotonic(), int(code) & 255 if code.isdigit() else 1
        return 200, plain, "exiting"
    found = identity(method, target, peer, own)
    if query.get("format") == "json" or "application/json" in headers.get("accept", ""):
        body = "{" + ",".join(f"{quoted(key)}:{quoted(value)}" for key, value in found) + "}\n"
        return 200, "application/json", body
    return 200, plain, "".join(f"{key + ':':<10} {value}\n" for key, value in found if value)


def response(status: int, kind: str, body: str, *, head_only: bool = False, close: bool = False) -> bytes:
    data = body.encode()
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
    lines += ["Server: nodeport-echo", *(["Connection: close"] if close else []), "", ""]
    return "\r\n".join(lines).encode() + (b"" if head_only else data)


def shown(address: Peer) -> str:
    host, port = address[:2]
    host = host[7:] if host.startswith("::ffff:") else host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Connection:
    """One TCP connection: bytes in, bytes out, and whether to close after them."""

    def __init__(self, sock: socket.socket, peer: Peer) -> None:
        self.sock, self.peer, self.own = sock, shown(peer), shown(sock.getsockname())
        self.inbox, self.outbox = bytearray(), bytearray()
        self.is_http: bool | None = None
        self.closing, self.events = False, select.EPOLLIN

    def take(self, data: bytes) -> None:
        self.inbox += data
        if self.is_http is None:
            start = bytes(self.inbox[:8])
            if any(start.startswith(method[: len(start)]) for method in METHODS):
                if len(start) < 8 and b" " not in start:
                    return
                self.is_http = True
            else:
                self.is_http = False
        if self.is_http:
            while not self.closing and self.take_request():
                pass
        else:
            self.take_lines()

    def take_lines(self) -> None:
        *lines, rest = bytes(self.inbox).split(b"\n")
        if len(rest) > MAX_HEAD:
            lines, rest = [*lines, rest], b""
        self.inbox = bytearray(rest)
        for line in lines:
            self.outbox += tell(self.peer, line) + b"\n"

    def finish(self) -> None:
        """The peer sends no more: answer a last line that has no end."""
        if not self.is_http and self.inbox:
            self.outbox += tell(self.peer, bytes(self.inbox)) + b"\n"
            self.inbox.clear()
        self.closing = True

    def refuse(self, status: int, why: str) -> bool:
        self.outbox += response(status, "text/plain", why, close=True)
        self.closing = True
        return False

    def take_request(self) -> bool:
        """Answer one request of the inbox; False when it holds no whole one."""
        end = self.inbox.find(b"\r\n\r\n")
        if end < 0:
            return self.refuse(400, "the head is too long") if len(self.inbox) > MAX_HEAD else False
        first, *rest = bytes(self.inbox[:end]).decode("latin-1").split("\r\n")
        headers = {}
        for line in rest:
            key, _, value = line.partition(":")
            headers[key.strip().lower()] = value.strip()
        words = first.split(" ")
        length = headers.get("content-length", "0")
        if len(words) != 3 or not length.isdigit():
            return self.refuse(400, "not an HTTP/1.1 request")
        if int(length) > MAX_BODY or "transfer-encoding" in headers:
            return self.refuse(413, "bodies are limited to 4 MiB with a Content-Length")
        if len(self.inbox) < end + 4 + int(length):
            if headers.get("expect", "").lower() == "100-continue" and len(self.inbox) == end + 4:
                self.outbox += b"HTTP/1.1 100 Continue\r\n\r\n"
            return False
        del self.inbox[: end + 4 + int(length)]
        wish = headers.get("connection", "").lower()
        close = wish == "close" or (words[2] == "HTTP/1.0" and wish != "keep-alive")
        status, kind, body = answer(words[0], words[1], headers, self.peer, self.own)
        self.outbox += response(status, kind, body, head_only=words[0] == "HEAD", close=close)
        self.closing = self.closing or close
        return True


def tell(client: str, data: bytes) -> bytes:
    return f"{POD} {NODE or '-'} {client} ".encode() + data.rstrip(b"\r\n")


class Server:
    def __init__(self, ports: list[int]) -> None:
        self.epoll = select.epoll()
        self.listeners: dict[int, socket.socket] = {}
        self.datagrams: dict[int, socket.socket] = {}
        self.connections: dict[int, Connection] = {}
        for port in ports:
            self.listen(port)

    def listen(self, port: int) -> None:
        for kind, table in ((socket.SOCK_STREAM, self.listeners), (socket.SOCK_DGRAM, self.datagrams)):
            sock = open_socket(kind, port)
            if kind == socket.SOCK_STREAM:
                sock.listen(1024)
            table[sock.fileno()] = sock
            self.epoll.register(sock.fileno(), select.EPOLLIN)

    def run(self) -> None:
        while True:
            left = -1 if State.ends is None else State.ends - time.monotonic()
            if State.ends is not None and left <= 0:
                return
            for number, events in self.epoll.poll(left):
                if number in self.listeners:
                    self.accept(self.listeners[number])
                elif number in self.datagrams:
                    self.echo_datagram(self.datagrams[number])
                elif number in self.connections:
                    self.serve(self.connections[number], events)

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, peer = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection = Connection(sock, peer)
        except OSError:
            sock.close()
            return
        self.connections[sock.fileno()] = connection
        self.epoll.register(sock.fileno(), select.EPOLLIN)

    def echo_datagram(self, sock: socket.socket) -> None:
        try:
            data, peer = sock.recvfrom(65536)
            sock.sendto(tell(shown(peer), data) + b"\n", peer)
        except OSError:
            pass  # an ICMP error for an earlier answer, or a full queue: datagrams may be lost

    def serve(self, connection: Connection, events: int) -> None:
        try:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                data = connection.sock.recv(65536)
                if data:
                    connection.take(data)
                else:
                    connection.finish()
            if connection.outbox:
                sent = connection.sock.send(connection.outbox)
                del connection.outbox[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.close(connection)
            return
        if connection.closing and not connection.outbox:
            self.close(connection)
            return
        wanted = select.EPOLLOUT if connection.closing else select.EPOLLIN
        if connection.outbox:
            wanted |= select.EPOLLOUT
        if wanted != connection.events:
            connection.events = wanted
            self.epoll.modify(connection.sock.fileno(), wanted)

    def close(self, connection: Connection) -> None:
        self.connections.pop(connection.sock.fileno(), None)
        connection.sock.close()


def open_socket(kind: socket.SocketKind, port: int) -> socket.socket:
    """A non-blocking socket on all addresses, of both families where the kernel has IPv6."""
    try:
        sock = socket.socket(socket.AF_INET6, kind)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        host = "::"
    except OSError:
        sock, host = socket.socket(socket.AF_INET, kind), ""
    if kind == socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    sock.bind((host, port))
    return sock


def terminate(number: int, frame: object) -> None:
    delay = float(os.environ.get("DELAY_SHUTDOWN") or 0)
    if delay <= 0:
        os._exit(0)
    State.ends = time.monotonic() + delay
    raise InterruptedError


def main() -> None:
    ports = [int(word) for word in os.environ.get("PORT", "8080").replace(",", " ").split()]
    server = Server(list(dict.fromkeys(ports)))
    signal.signal(signal.SIGTERM, terminate)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    print("listening on", *ports, flush=True)
    if "READY_FD" in os.environ:
        os.close(int(os.environ["READY_FD"]))
    while True:
        try:
            server.run()
            break
        except InterruptedError:
            continue
    sys.exit(State.code)


main()
