"""Reading HTTP requests: path, query, and a body within its limit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp import HttpVersion11, web

from nodeport.api.status import BadRequest, NotFound, RequestEntityTooLarge, Timeout

BODY_SECONDS = 30.0
_LISTS = ("dryRun", "exclude")


class Address(msgspec.Struct, frozen=True):
    """A request's path, decoded, and its query; of a repeated parameter the first value counts,
    of ``dryRun`` and ``exclude`` each, on a line of its own."""

    path: str
    query: Mapping[str, str]
    query_text: str


def address_of(request: web.BaseRequest) -> Address:
    """The request's address. Raises NotFound for dot segments: nothing has such a name, and nothing is resolved."""
    raw, _, query_text = request.raw_path.partition("?")
    if not raw.startswith("/"):
        raw = request.path
        if not raw.startswith("/"):  # of CONNECT the authority is all that there is
            raise NotFound("the server could not find the requested resource")
    path = unquote(raw) if "%" in raw else raw
    if len(path) > 1 and path.endswith("/"):
        path = path.rstrip("/") or "/"
    if "/." in path and not {".", ".."}.isdisjoint(path.split("/")):
        raise NotFound("the server could not find the requested resource")
    query: dict[str, str] = {}
    if query_text:
        for name, value in parse_qsl(query_text, keep_blank_values=True):
            query[name] = (
                f"{query[name]}\n{value}" if name in _LISTS and name in query else query.get(name, value)
            )
    return Address(path, query, query_text)


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body; 413 as soon as it is known to be too long, 504 when it does not come in time.

    400 when it is not framed as its head promises.
    """
    try:
        return await _read_body(request)
    except web.RequestPayloadError as error:
        raise BadRequest("the request's body is not framed as its head tells") from error


async def _read_body(request: web.BaseRequest) -> bytes:
    if not request.body_exists:
        return b""
    most = request.client_max_size
    if (request.content_length or 0) > most:
        raise _too_large(most)
    found = request.content.read_nowait()
    if request.content.at_eof() and len(found) <= most:  # a small body comes with the head
        return found
    if not found:
        await invite_body(request)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_on(request, found)
    except TimeoutError:
        raise Timeout(f"Timeout: the request's body did not come within {BODY_SECONDS:g} s") from None


async def invite_body(request: web.BaseRequest) -> None:
    """Tell a client that waits for leave to send its body to send it: ``Expect: 100-continue``."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def _read_on(request: web.BaseRequest, found: bytes) -> bytes:
    parts, size, most = [found], len(found), request.client_max_size
    async for part in request.content.iter_any():
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


def _too_large(most: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"Request entity too large: limit is {most}")
