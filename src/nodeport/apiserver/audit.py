"""Who did what: one JSON line for each request, written by whoever has time.

Rules: ``audit.k8s.io/v1`` of Kubernetes 1.36 at the level Metadata: bodies are never written. Streams have a line when
they begin (ResponseStarted) and one when they end. The log never holds up a request: lines are written in batches by a
thread, and when they cannot be written (the disk is full) or come too fast they are dropped, and counted.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from aiohttp import web

from nodeport.api.meta import JsonObject
from nodeport.apiserver.auth import User
from nodeport.apiserver.encoding import encode
from nodeport.apiserver.routes import Target
from nodeport.kit.clock import Clock, rfc3339_micro
from nodeport.kit.logs import get_logger
from nodeport.kit.names import random_uid

MEGABYTE = 1024 * 1024
QUEUED_LINES = 50_000
GATHER_SECONDS = 0.1
BATCH_LINES = 1_000
RETRY_SECONDS = 1.0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
_log = get_logger("nodeport.apiserver.audit")


def audit_id(asked: str | None) -> str:
    """The id that a client gave its request, or a new one."""
    return asked if asked and _ID.fullmatch(asked) else random_uid()


@dataclass(slots=True)
class Record:
    """What is known of one request; filled in on its way."""

    id: str
    received: datetime
    user: User | None = None
    impersonated: User | None = None
    verb: str = ""
    target: Target | None = None
    decision: str = ""
    message: str = ""
    reason: str = ""


def event(record: Record, request: web.BaseRequest, stage: str, now: datetime, code: int = 0) -> JsonObject:
    """``code``: of the answer; 0 while there is none."""
    made: JsonObject = {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": record.id, "stage": stage,
        "requestURI": request.raw_path, "verb": record.verb or request.method.lower(),
        "user": _user(record.user) if record.user else {},
    }  # fmt: skip
    if record.impersonated is not None:
        made["impersonatedUser"] = _user(record.impersonated)
    made["sourceIPs"] = [request.remote] if request.remote else []
    if agent := request.headers.get("User-Agent"):
        made["userAgent"] = readable(agent)
    if record.target is not None:
        made["objectRef"] = _reference(record.target)
    if code:
        status: JsonObject = {"metadata": {}, "code": code}
        if code >= 400:
            status |= {"status": "Failure", "message": readable(record.message), "reason": record.reason}
        made["responseStatus"] = status
    made["requestReceivedTimestamp"] = rfc3339_micro(record.received)
    made["stageTimestamp"] = rfc3339_micro(now)
    if record.decision:
        made["annotations"] = {"authorization.k8s.io/decision": record.decision}
    return made


def readable(text: str) -> str:
    """Headers may hold bytes that are no UTF-8: a line can be written all the same."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _user(user: User) -> JsonObject:
    found: JsonObject = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    found["extra"] = {key: list(values) for key, values in user.extra}
    return {key: value for key, value in found.items() if value}


def _reference(target: Target) -> JsonObject:
    row = target.resource
    found = {
        "resource": row.plural, "namespace": target.namespace, "name": target.name, "apiGroup": row.group,
        "apiVersion": row.version, "subresource": target.subresource,
    }  # fmt: skip
    return {key: value for key, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """``max_megabytes``: of one file, then it is set aside; ``backups``: files set aside that are kept, 0 for all."""

    path: Path
    max_megabytes: int = 100
    backups: int = 0


@dataclass(slots=True)
class AuditFile:
    """The file and its predecessors; blocking. Raises OSError; what was not written then is lost."""

    options: AuditOptions
    clock: Clock
    _size: int = field(default=0, init=False)
    _descriptor: int = field(default=-1, init=False)

    def write(self, lines: bytes) -> None:
        if self._descriptor < 0:
            self._open()
        if self._size and self._size + len(lines) > self.options.max_megabytes * MEGABYTE:
            self._rotate()
        try:
            rest = memoryview(lines)
            while rest:
                written = os.write(self._descriptor, rest)
                self._size += written
                rest = rest[written:]
        except OSError:
            self.close()
            raise

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self.options.path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        if self._size and not self._ends_with_line():
            os.write(self._descriptor, b"\n")  # a writer that was killed left half a line

    def _ends_with_line(self) -> bool:
        with self.options.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _rotate(self) -> None:
        self.close()
        path = self.options.path
        moment = self.clock.now().strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
        aside = path.with_name(f"{path.stem}-{moment}{path.suffix}")
        path.rename(aside)
        if self.options.backups:
            for old in self.set_aside()[: -self.options.backups]:
                old.unlink(missing_ok=True)
        self._open()

    def set_aside(self) -> list[Path]:
        """Oldest first."""
        path = self.options.path
        stamp = re.compile(
            re.escape(path.stem) + r"-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}" + re.escape(path.suffix)
        )
        return sorted(each for each in path.parent.iterdir() if stamp.fullmatch(each.name))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class AuditLog:
    """``add`` never waits and never fails; ``run`` writes until cancelled, then writes what is left."""

    def __init__(self, options: AuditOptions, clock: Clock) -> None:
        self._file = AuditFile(options, clock)
        self._clock = clock
        self._waiting: deque[JsonObject] = deque()
        self._wanted = asyncio.Event()
        self._failing = False
        self.dropped = 0
        self.written = 0

    def add(self, record: Record, request: web.BaseRequest, stage: str, code: int = 0) -> None:
        if len(self._waiting) >= QUEUED_LINES:
            self.dropped += 1
            return
        self._waiting.append(event(record, request, stage, self._clock.now(), code))
        self._wanted.set()

    async def run(self) -> None:
        try:
            while True:
                await self._wanted.wait()
                await asyncio.sleep(GATHER_SECONDS)
                self._wanted.clear()
                while self._waiting:
                    await self._write_whole(self._batch())
        finally:
            while self._waiting and not self._failing:
                self._write(self._batch())
            self._file.close()

    async def _write_whole(self, batch: list[JsonObject]) -> None:
        """A cancelled writer ends its batch first: two writers of one file would mix their lines."""
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, batch))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    def _batch(self) -> list[JsonObject]:
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_LINES))]

    def _write(self, batch: list[JsonObject]) -> None:
        """In a thread."""
        try:
            self._file.write(b"".join(encode(each) + b"\n" for each in batch))
        except (OSError, ValueError) as error:  # no line is worth the server
            self.dropped += len(batch)
            if not self._failing:
                _log.error("the audit log %s cannot be written: %s", self._file.options.path, error)
            self._failing = True
        else:
            self.written += len(batch)
            self._failing = False

    def metrics(self) -> list[str]:
        return [
            "# TYPE apiserver_audit_event_total counter",
            f"apiserver_audit_event_total {self.written}",
            "# TYPE apiserver_audit_error_total counter",
            f"apiserver_audit_error_total {self.dropped}",
        ]
