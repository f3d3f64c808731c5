"""The door: each request is authenticated, routed, authorized, served, and every failure becomes a Status."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass

from aiohttp import web

from nodeport.api.duration import parse_duration
from nodeport.api.selectors import parse_field_selector
from nodeport.api.status import ApiError, BadRequest, TooManyRequests
from nodeport.apiserver.audit import AuditLog, Record, audit_id
from nodeport.apiserver.auth import Attributes, Authorizer, User, about, forbidden
from nodeport.apiserver.authentication.authenticator import Authenticator
from nodeport.apiserver.authentication.impersonation import claim_of
from nodeport.apiserver.connections import (
    AUDIT_ID,
    LARGE_BYTES,
    REQUEST_ID,
    STARTED,
    Connection,
    send_in_parts,
)
from nodeport.apiserver.documents import Documents
from nodeport.apiserver.errors import answer_of, bug, from_store, method_not_allowed, unknown_path
from nodeport.apiserver.limits import RequestLimits, is_stream
from nodeport.apiserver.metrics import Metrics
from nodeport.apiserver.requests import Address, address_of
from nodeport.apiserver.routes import PROXY, UPGRADED, Router, Target
from nodeport.apiserver.verbs import Call, Verbs
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.store.base import StoreError

_log = get_logger("nodeport.apiserver")
_SELECTING = ("list", "watch", "deletecollection")


@dataclass(frozen=True, slots=True)
class Doorkeepers:
    """Everyone who may turn a request away, and who writes down that it came (None: nobody)."""

    authenticator: Authenticator
    authorizer: Authorizer
    limits: RequestLimits
    audit: AuditLog | None
    clock: Clock


@dataclass(slots=True)
class Visit:
    """One request on its way. ``record``: what the audit log will say; None when there is none. ``client``: the name of
    who asks."""

    request: web.BaseRequest
    record: Record | None
    verb: str
    resource: str = ""
    streams: bool = False
    client: str = ""


class Handler:
    def __init__(
        self, router: Router, verbs: Verbs, documents: Documents, doorkeepers: Doorkeepers, metrics: Metrics
    ) -> None:
        self._router = router
        self._verbs = verbs
        self._documents = documents
        self._doorkeepers = doorkeepers
        self._metrics = metrics

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        began = time.perf_counter()
        visit = Visit(request, self._record(request), request.method)
        status = 0
        try:
            response = await self._serve(visit)
            status = response.status
        except ConnectionError:
            raise
        except Exception as error:
            response = self._refuse(visit, error)
            status = response.status
        finally:
            if visit.record is not None:
                self._write_down(visit, "ResponseComplete", status or (200 if visit.streams else 0))
        if not response.prepared:
            response.headers.setdefault("Cache-Control", "no-cache, private")
            response = await self._send_if_large(visit, response)
        self._metrics.count(visit.verb, visit.resource, response.status, time.perf_counter() - began)
        return response

    async def _send_if_large(self, visit: Visit, response: web.StreamResponse) -> web.StreamResponse:
        request = visit.request
        body = response.body if isinstance(response, web.Response) else None
        if not isinstance(body, bytes) or len(body) < LARGE_BYTES or request.method == "HEAD":
            return response
        assert isinstance(response, web.Response)
        try:
            with self._doorkeepers.limits.unread.holding(visit.client, len(body)):
                return await send_in_parts(request, response, body)
        except TooManyRequests as error:
            return self._refuse(visit, error)

    async def _serve(self, visit: Visit) -> web.StreamResponse:
        request = visit.request
        address = address_of(request)
        target = self._router.target(address.path)
        if target is None:
            return await self._serve_document(visit, address)
        visit.verb, visit.resource = target_verb(target, request, address), target.resource.qualified_name
        if visit.record is not None:
            visit.record.verb, visit.record.target = visit.verb, target
        return await self._serve_object(visit, address, target)

    def _refuse(self, visit: Visit, error: Exception) -> web.Response:
        refusal = as_api_error(error)
        if visit.record is not None:
            visit.record.message, visit.record.reason = refusal.message, refusal.reason
        if not isinstance(error, ApiError | StoreError | RecursionError):
            _log.error("%s %s failed", visit.request.method, visit.request.raw_path, exc_info=error)
        return answer_of(refusal)

    # Writing down

    def _record(self, request: web.BaseRequest) -> Record | None:
        if self._doorkeepers.audit is None:
            return None
        found = Record(audit_id(request.headers.get(AUDIT_ID)), self._doorkeepers.clock.now())
        request[REQUEST_ID] = found.id
        return found

    def _write_down(self, visit: Visit, stage: str, status: int = 0) -> None:
        if visit.record is not None and self._doorkeepers.audit is not None:
            self._doorkeepers.audit.add(visit.record, visit.request, stage, status)

    # Who, and may he?

    async def _user(self, visit: Visit) -> User:
        """Who asks, or whom he is allowed to speak for."""
        request, record = visit.request, visit.record
        transport = request.transport
        connection = transport.get_extra_info("ssl_object") if transport is not None else None
        assert connection is None or isinstance(connection, ssl.SSLObject)
        authorization = request.headers.get("Authorization", "")
        user = await self._doorkeepers.authenticator.user(connection, authorization)
        visit.client = user.name
        if record is not None:
            record.user = user
        claim = claim_of(request.raw_headers)
        if claim is None:
            return user
        for question in claim.questions(user):
            await self._authorize(question, record)
        if record is not None:
            record.impersonated = claim.user()
        return claim.user()

    async def _authorize(self, attributes: Attributes, record: Record | None) -> None:
        if attributes.user.is_master:
            return
        decision = await self._doorkeepers.authorizer.decide(attributes)
        if not decision.allowed:
            if record is not None:
                record.decision = "forbid"
            raise forbidden(attributes, decision.reason)

    async def _serve_document(self, visit: Visit, address: Address) -> web.StreamResponse:
        request = visit.request
        user = await self._user(visit)
        await self._authorize(Attributes(user, request.method.lower(), path=address.path), visit.record)
        if visit.record is not None:
            visit.record.decision = "allow"
        if not self._documents.knows(address.path):
            raise unknown_path()
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        return await self._documents.answer(request, address)

    async def _serve_object(self, visit: Visit, address: Address, target: Target) -> web.StreamResponse:
        user = await self._user(visit)
        asked = visit.verb or visit.request.method.lower()
        if not user.is_master:
            await self._authorize(attributes_of(user, asked, target, address), visit.record)
            if asked == "get" and target.subresource in UPGRADED:
                await self._authorize(attributes_of(user, "create", target, address), visit.record)
        if visit.record is not None:
            visit.record.decision = "allow"
        if not is_allowed(target, visit.verb):
            raise method_not_allowed()
        call = Call(visit.request, address, target, visit.verb, user)
        limits = self._doorkeepers.limits
        if is_stream(visit.verb, target.subresource):
            return await self._serve_stream(visit, call)
        check_timeout(address)
        gate = limits.gate(user, visit.verb)
        if gate is None:
            return await self._verbs.serve(call)
        await gate.enter(user.name)
        try:
            return await self._verbs.serve(call)
        finally:
            gate.leave(user.name)

    async def _serve_stream(self, visit: Visit, call: Call) -> web.StreamResponse:
        limits = self._doorkeepers.limits
        limits.open_stream(call.user)
        visit.streams = True
        if visit.record is not None:
            visit.request[STARTED] = lambda status: self._write_down(visit, "ResponseStarted", status)
        connection = call.request.protocol
        assert isinstance(connection, Connection)
        connection.may_pause = visit.verb != "watch"
        try:
            return await self._verbs.serve(call)
        finally:
            connection.may_pause = False
            limits.close_stream(call.user)


def check_timeout(address: Address) -> None:
    """400 for a ``timeout`` that is no duration. Requests end within theirs here, and are not cut off at it."""
    if text := address.query.get("timeout"):
        try:
            parse_duration(text)
        except ValueError as error:
            raise BadRequest(f"invalid timeout specified in the request URL - {error}") from error


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of a failure."""
    match error:
        case ApiError():
            return error
        case StoreError():
            return from_store(error)
        case RecursionError():
            return BadRequest("the request is nested too deeply")
        case _:
            return bug(error)


def attributes_of(user: User, verb: str, target: Target, address: Address) -> Attributes:
    """What is asked for; a field selector of one name asks for that object."""
    name, selector = target.name, ""
    if verb in _SELECTING and (selector := address.query.get("fieldSelector", "")) and not name:
        name = _selected_name(selector)
    return about(user, verb, target.resource, target.namespace, name, target.subresource, selector)


def _selected_name(selector: str) -> str:
    try:
        requirements = parse_field_selector(selector).requirements
    except BadRequest:
        return ""  # whoever reads the selector will say what is wrong
    return next((value for path, word, value in requirements if path == "metadata.name" and word == "="), "")


def target_verb(target: Target, request: web.BaseRequest, address: Address) -> str:
    verb = target.verb(request.method)
    if verb == "list" and address.query.get("watch", "false").lower() not in ("false", "0"):
        return "watch"
    return verb


def is_allowed(target: Target, verb: str) -> bool:
    """Whether the resource, or the subresource, knows the verb at this path."""
    if target.subresource == PROXY:
        return True
    if target.subresource:
        found = target.resource.subresource(target.subresource)
        return found is not None and verb in found.verbs
    if verb == "create" and (target.name or target.all_namespaces):
        return False
    return verb in target.resource.verbs
