"""The one place where failures become HTTP answers with ``Status`` bodies."""

from __future__ import annotations

from aiohttp import web

from nodeport.api.meta import JsonObject
from nodeport.api.status import (
    ApiError,
    Cause,
    Expired,
    InternalError,
    MethodNotAllowed,
    NotFound,
    ServiceUnavailable,
    Timeout,
    internal_error,
)
from nodeport.apiserver.encoding import encode
from nodeport.store import base as store

EXPIRED_CONTINUE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


def from_store(error: store.StoreError) -> ApiError:
    """What a client is told of a store's refusal. Conflicts are settled before, by those who know the object."""
    match error:
        case store.Compacted():
            return too_old(error.asked, error.oldest)
        case store.FutureRevision():
            return too_large_revision(error.asked, error.current)
        case store.Unavailable():
            why = f"the store refuses to write: {error.why}" if error.why else "the store is unavailable"
            return ServiceUnavailable(
                f"the server is currently unable to handle the request: {why}", retry_after_seconds=1
            )
        case store.Closed():
            return ServiceUnavailable(f"the server is currently unable to handle the request: {error}")
        case _:
            return internal_error(error)


EXPIRED_LIST = "The resourceVersion for the provided list is too old."


def too_old(asked: int, oldest: int) -> Expired:
    return Expired(f"too old resource version: {asked} ({oldest})")


def too_large_revision(asked: int, current: int) -> Timeout:
    return Timeout(
        f"Timeout: Too large resource version: {asked}, current: {current}",
        causes=[Cause("ResourceVersionTooLarge", "Too large resource version")],
        retry_after_seconds=1,
    )


def unknown_path() -> NotFound:
    return NotFound("the server could not find the requested resource", details={})


def method_not_allowed() -> MethodNotAllowed:
    """What the router says of a path that it knows and a method that the path does not take."""
    return MethodNotAllowed("the server does not allow this method on the requested resource", details={})


def answer_of(error: ApiError) -> web.Response:
    """The HTTP answer whose body is the error's Status."""
    headers = {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds else None
    return web.Response(
        status=error.code,
        body=encode(error.to_status()) + b"\n",
        content_type="application/json",
        headers=headers,
    )


def success(details: JsonObject) -> JsonObject:
    """The Status of a deed whose result is no object."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def bug(error: BaseException) -> InternalError:
    """An unexpected exception: the client learns that it happened, the log why."""
    return InternalError(f"Internal error occurred: {type(error).__name__}: {error}")
