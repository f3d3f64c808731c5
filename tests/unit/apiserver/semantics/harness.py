"""API servers in threads of their own, and rows of Services to try on them: a row says what is sent and all that must
come back."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote

from nodeport.apiserver.auth import User
from nodeport.apiserver.server import ApiServer, ApiServerConfig
from nodeport.store.memory import MemoryStore

Json = dict[str, Any]
SERVICES = "/api/v1/namespaces/default/services"
MERGE = "application/merge-patch+json"
ABSENT = object()
"""A field that must not be there."""
ANY = object()
"""A field that must be there, whatever it is."""
CLUSTERS = {
    "v4": "10.96.0.0/16", "v6": "fd00:96::/112", "v4v6": "10.96.0.0/16,fd00:96::/112",
    "v6v4": "fd00:96::/112,10.96.0.0/16",
}  # fmt: skip
_REASONS = {
    "Invalid value": "FieldValueInvalid", "Required value": "FieldValueRequired", "Forbidden": "FieldValueForbidden",
    "Duplicate value": "FieldValueDuplicate", "Unsupported value": "FieldValueNotSupported",
    "Too long": "FieldValueTooLong",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    status: int
    body: Json
    warnings: list[str]


class Served:
    """An API server and one connection to it."""

    def __init__(self, kind: str) -> None:
        self._cidrs = tuple(ip_network(text) for text in CLUSTERS[kind].split(","))
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=f"apiserver-{kind}")
        self._names = (f"s{number}" for number in itertools.count())
        self._connection: http.client.HTTPConnection | None = None

    async def _serve(self) -> None:
        admin = User("admin", ("system:masters",))
        server = ApiServer(ApiServerConfig(
            MemoryStore(), listen=(("127.0.0.1", 0),), tokens={"t": admin}, service_cidrs=self._cidrs, seed=1,
        ))  # fmt: skip
        self._loop, self._task = asyncio.get_running_loop(), asyncio.create_task(server.run())
        waiter = asyncio.create_task(server.wait_until_serving())
        await asyncio.wait((waiter, self._task), return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        self._port = server.addresses[0][1] if server.addresses else 0
        self._ready.set()
        await asyncio.gather(self._task, return_exceptions=True)

    def start(self) -> Served:
        self._thread.start()
        assert self._ready.wait(30)
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        return self

    def stop(self) -> None:
        assert self._connection is not None
        self._connection.close()
        if self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(30)

    def __call__(
        self, method: str, path: str, body: Json | None = None, kind: str = "application/json"
    ) -> Answer:
        assert self._connection is not None
        headers = {"Authorization": "Bearer t", "Content-Type": kind}
        self._connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = self._connection.getresponse()
        warnings = [text.removeprefix("299 - ")[1:-1].replace('\\"', '"')
                    for name, text in response.getheaders() if name == "Warning"]  # fmt: skip
        data = response.read()
        return Answer(response.status, json.loads(data) if data else {}, warnings)

    def new_name(self) -> str:
        return next(self._names)

    @contextmanager
    def removing(self, *names: str) -> Iterator[None]:
        """Whatever happens, the Services are gone afterwards."""
        try:
            yield
        finally:
            for name in map(quote, filter(None, names)):
                self("PATCH", f"{SERVICES}/{name}", {"metadata": {"finalizers": None}}, MERGE)
                self("DELETE", f"{SERVICES}/{name}")


@dataclass(frozen=True)
class Expected:
    """``errors``: of a 422, each ``FIELD: TEXT``. ``refused``: (status, reason, text) of another refusal, ``{name}``
    standing for the Service. ``fields``: dotted paths of the answer and their values."""

    errors: tuple[str, ...] = ()
    refused: tuple[int, str | None, str] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    status: int = 0

    def check(self, answer: Answer, name: str, default: int) -> None:
        if self.refused is not None:
            status, reason, text = self.refused
            found = (answer.status, answer.body.get("reason"), answer.body.get("message"))
            assert found == (status, reason, text.replace("{name}", name))
        elif self.errors:
            self._check_invalid(answer, name)
        else:
            assert answer.status == (self.status or default), answer.body
        for path, value in self.fields.items():
            found = look_up(answer.body, path)
            if value is ANY:
                assert found is not ABSENT, f"{path} is missing"
            else:
                assert found == value, f"{path} is {found}"
        assert tuple(answer.warnings) == self.warnings

    def _check_invalid(self, answer: Answer, name: str) -> None:
        status = answer.body
        assert (answer.status, status.get("reason"), status.get("code")) == (422, "Invalid", 422), status
        unique = list(dict.fromkeys(self.errors))
        shown = unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
        assert status["message"] == f'Service "{name}" is invalid: {shown}'
        details = {key: value for key, value in status["details"].items() if key != "causes"}
        assert details == ({"name": name, "kind": "Service"} if name else {"kind": "Service"})
        assert status["details"]["causes"] == [_cause(error) for error in self.errors]


def _cause(error: str) -> Json:
    path, _, body = error.partition(": ")
    words = next(words for words in _REASONS if body.startswith(words))
    return {"reason": _REASONS[words], "message": body, "field": path}


def look_up(obj: Any, path: str) -> Any:
    """``spec.ports.0.nodePort``, or ABSENT."""
    for step in path.split("."):
        if isinstance(obj, list) and step.isdigit() and int(step) < len(obj):
            obj = obj[int(step)]
        elif isinstance(obj, dict) and step in obj:
            obj = obj[step]
        else:
            return ABSENT
    return obj


@dataclass(frozen=True)
class Create:
    """POST of one Service. ``rule`` is the row of the behaviour's description that the case belongs to."""

    rule: str
    id: str
    spec: Json
    expected: Expected
    meta: Json = field(default_factory=dict)
    cluster: str = "v4"
    query: str = ""


@dataclass(frozen=True)
class Update:
    """A Service that is created as ``first`` and then changed: by a merge patch, or by PUT of ``change`` as spec."""

    rule: str
    id: str
    first: Json
    change: Json
    expected: Expected
    cluster: str = "v4"
    put: bool = False
    subresource: str = ""
    meta: Json = field(default_factory=dict)
    query: str = ""


PORT80 = [{"port": 80}]


def create(
    rule: str, id: str, spec: Json, *errors: str, meta: Json | None = None, cluster: str = "v4", query: str = "",  # noqa: A002
    **expected: Any,
) -> Create:  # fmt: skip
    """A row; ``ports`` are one port 80 unless the spec says otherwise, None for none at all."""
    spec = {"ports": PORT80, **spec}
    if spec["ports"] is None:
        del spec["ports"]
    return Create(rule, id, spec, Expected(tuple(errors), **expected), meta or {}, cluster, query)


def update(
    rule: str, id: str, first: Json, change: Json, *errors: str, cluster: str = "v4", put: bool = False,  # noqa: A002
    subresource: str = "", meta: Json | None = None, query: str = "", **expected: Any,
) -> Update:  # fmt: skip
    """A row; ``change`` is a spec unless it has ``metadata`` or ``status``, then a whole object."""
    first = {"ports": PORT80, **first}
    if first["ports"] is None:
        del first["ports"]
    whole = change if change.keys() & {"metadata", "status", "spec"} else {"spec": change}
    return Update(
        rule,
        id,
        first,
        whole,
        Expected(tuple(errors), **expected),
        cluster,
        put,
        subresource,
        meta or {},
        query,
    )


def run_create(served: Served, case: Create) -> None:
    name = case.meta.get("name", served.new_name())
    meta = {"name": name, **case.meta}
    obj = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": case.spec}
    answer = served("POST", SERVICES + case.query, obj)
    with served.removing(name or answer.body["metadata"].get("name", "")):
        case.expected.check(answer, name, 201)


def run_update(served: Served, case: Update) -> None:
    name = served.new_name()
    obj = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, **case.meta}, "spec": case.first}
    with served.removing(name):
        made = served("POST", SERVICES, obj)
        assert made.status == 201, made.body
        path = f"{SERVICES}/{name}" + (f"/{case.subresource}" if case.subresource else "") + case.query
        if case.put:
            change = {"apiVersion": "v1", "kind": "Service", **case.change}
            change["metadata"] = {"name": name, **case.change.get("metadata", {})}
            answer = served("PUT", path, change)
        else:
            answer = served("PATCH", path, case.change, MERGE)
        case.expected.check(answer, name, 200)
        if case.expected.errors or case.expected.refused:
            assert served("GET", f"{SERVICES}/{name}").body == made.body, (
                "a refused update left something behind"
            )


def ids(cases: Iterable[Create | Update]) -> list[str]:
    return [f"{case.rule}-{case.id}" for case in cases]
