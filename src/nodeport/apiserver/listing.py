"""Lists: one consistent revision, in pages if asked, filtered by selectors."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.api.status import BadRequest, Expired
from nodeport.apiserver.encoding import Splicer, prefix_of, stored_labels
from nodeport.apiserver.errors import EXPIRED_CONTINUE, EXPIRED_LIST, too_large_revision
from nodeport.apiserver.options import EXACT, ListOptions
from nodeport.kit.clock import Clock
from nodeport.store.base import Compacted, FutureRevision, KeyValue, Revision, Store

TOKEN_VERSION = "meta.k8s.io/v1"
NEWEST = Revision(-1)
"""In a token: go on with whatever there is now."""
FRESHNESS_PATIENCE = timedelta(seconds=3)
FRESHNESS_POLL_SECONDS = 0.02
SCAN_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """``remaining`` None: not known, because a selector filters. ``continue_token`` empty: this is the end."""

    items: list[KeyValue]
    revision: Revision
    continue_token: str = ""
    remaining: int | None = None

    def metadata(self) -> JsonObject:
        found: JsonObject = {"resourceVersion": str(self.revision)}
        if self.continue_token:
            found["continue"] = self.continue_token
            if self.remaining:
                found["remainingItemCount"] = self.remaining
        return found


def encode_token(revision: int, start: str) -> str:
    """``start``: the last key given, relative to the resource's prefix."""
    body = json.dumps({"v": TOKEN_VERSION, "rv": revision, "start": f"{start}\0"}, separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def decode_token(token: str) -> tuple[Revision, str]:
    """The revision (``NEWEST`` for whatever there is now) and the last key given; 400 for what is no token."""
    try:
        body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, found, start = body.get("v"), body.get("rv") or 0, body.get("start") or ""
    except (binascii.Error, ValueError, AttributeError) as error:
        what = "illegal base64 data" if isinstance(error, binascii.Error) else "no JSON object"
        raise _no_token(f": {what}") from error
    if version != TOKEN_VERSION:
        raise _no_token(": server does not recognize this encoded version")
    if not isinstance(found, int) or not found or found < NEWEST:
        raise _no_token(f": incorrect encoded start resourceVersion (version {TOKEN_VERSION})")
    if not start:
        raise _no_token(f": encoded start key empty (version {TOKEN_VERSION})")
    if (
        not isinstance(start, str)
        or start.startswith("/")
        or not {"..", ".", ""}.isdisjoint(start.split("/"))
    ):
        raise _no_token(f": {start}")
    return Revision(found), start.removesuffix("\0")


def _no_token(why: str) -> BadRequest:
    return BadRequest(f"invalid continue token: continue key is not valid{why}")


def _expired(options: ListOptions) -> Expired:
    """410; whoever was in the middle of a list may go on, with whatever is there now."""
    if not options.continue_token:
        return Expired(EXPIRED_LIST)
    _, start = decode_token(options.continue_token)
    return Expired(EXPIRED_CONTINUE, continue_token=encode_token(NEWEST, start))


def matcher(splicer: Splicer, options: ListOptions) -> Callable[[KeyValue], bool] | None:
    """A test of stored objects; None when everything matches. Labels are looked at without decoding the rest."""
    labels, fields = options.label_selector, options.field_selector
    by_fields = bool(fields.requirements)
    if labels.empty and not by_fields:
        return None

    def matches(kv: KeyValue) -> bool:
        if not labels.empty and not labels.matches(stored_labels(kv.value)):
            return False
        return not by_fields or fields.matches(splicer.read(kv))

    return matches


class Lister:
    """Reads collections from the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def wait_until_fresh(self, revision: int) -> None:
        """Wait a little for a revision that has not happened yet; then 504."""
        deadline = self._clock.monotonic() + FRESHNESS_PATIENCE.total_seconds()
        while self._store.revision < revision:
            if self._clock.monotonic() >= deadline:
                raise too_large_revision(revision, self._store.revision)
            await self._clock.sleep(FRESHNESS_POLL_SECONDS)

    async def page(self, resource: Resource, namespace: str, splicer: Splicer, options: ListOptions) -> Page:
        prefix = prefix_of(resource, namespace)
        revision, start_after = await self._position(prefix, options)
        matches = matcher(splicer, options)
        try:
            if matches is None:
                listing = await self._store.list(
                    prefix, start_after=start_after, limit=options.limit, revision=revision
                )
                items, found, remaining = list(listing.items), listing.revision, listing.remaining
            else:
                items, found, remaining = await self._filtered(
                    prefix, start_after, revision, options.limit, matches
                )
        except Compacted as error:
            raise _expired(options) from error
        except FutureRevision as error:
            raise too_large_revision(error.asked, error.current) from error
        token = encode_token(revision or found, items[-1].key.removeprefix(prefix)) if remaining else ""
        return Page(items, revision or found, token, remaining if matches is None else None)

    async def _position(self, prefix: str, options: ListOptions) -> tuple[Revision | None, str]:
        """The snapshot to read (None: the newest) and the key to go on after."""
        if options.continue_token:
            if options.resource_version:
                raise BadRequest("specifying resource version is not allowed when using continue")
            revision, start = decode_token(options.continue_token)
            return (None if revision == NEWEST else revision), f"{prefix}{start}"
        if not options.resource_version:
            return None, ""
        await self.wait_until_fresh(options.resource_version)
        exact = options.match == EXACT or (not options.match and options.limit > 0)
        return (Revision(options.resource_version) if exact else None), ""

    async def _filtered(
        self,
        prefix: str,
        start_after: str,
        revision: Revision | None,
        limit: int,
        matches: Callable[[KeyValue], bool],
    ) -> tuple[list[KeyValue], Revision, int]:
        """Like ``Store.list``; ``remaining`` here only says whether something is left."""
        if not limit:
            listing = await self._store.list(prefix, start_after=start_after, revision=revision)
            return [kv for kv in listing.items if matches(kv)], listing.revision, 0
        found: list[KeyValue] = []
        while True:
            listing = await self._store.list(
                prefix, start_after=start_after, limit=max(limit, SCAN_CHUNK), revision=revision
            )
            revision = revision or listing.revision
            for kv in listing.items:
                if not matches(kv):
                    continue
                if len(found) == limit:
                    return found, revision, 1
                found.append(kv)
            if not listing.remaining:
                return found, revision, 0
            start_after = listing.items[-1].key
