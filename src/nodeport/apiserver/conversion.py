"""Rows that show another row's objects in a version of their own: converted when served and when stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nodeport.api import events
from nodeport.api.meta import JsonObject
from nodeport.api.resources import NEW_EVENTS, Resource
from nodeport.apiserver.encoding import Splicer, decode, encode, encode_stored
from nodeport.store.base import KeyValue

Convert = Callable[[JsonObject], JsonObject]


@dataclass(frozen=True, slots=True)
class Conversion:
    """``shown`` makes the served form of the stored one, ``stored`` the way back; neither changes its argument."""

    shown: Convert
    stored: Convert


CONVERSIONS = {NEW_EVENTS.qualified_name: Conversion(events.from_core, events.to_core)}


class ConvertingSplicer(Splicer):
    """Cannot splice: every object is decoded, converted and encoded."""

    __slots__ = ("_conversion",)
    _conversion: Conversion

    def __init__(self, resource: Resource, conversion: Conversion) -> None:
        super().__init__(resource)
        object.__setattr__(self, "_conversion", conversion)

    def store(self, obj: JsonObject) -> bytes:
        return encode_stored(self._conversion.stored(obj))

    def serve(self, stored: bytes, revision: int) -> bytes:
        return encode(self.read_as_of(stored, revision))

    def serve_without_revision(self, stored: bytes) -> bytes:
        return encode(self._shown(decode(stored)))

    def serve_list(self, items: Sequence[KeyValue], list_metadata: JsonObject) -> bytes:
        shown = []
        for kv in items:
            obj = self.read(kv)
            shown.append({key: value for key, value in obj.items() if key not in ("kind", "apiVersion")})
        return b'%b%b,"items":%b}\n' % (self.list_head, encode(list_metadata), encode(shown))

    def read_as_of(self, stored: bytes, revision: int) -> JsonObject:
        obj = decode(stored)
        obj["metadata"] = {"resourceVersion": str(revision), **obj["metadata"]}
        return self._shown(obj)

    def _shown(self, obj: JsonObject) -> JsonObject:
        row = self.resource
        return {"kind": row.kind, "apiVersion": row.api_version, **self._conversion.shown(obj)}


def splicer_of(resource: Resource) -> Splicer:
    """Who serves the objects of a row."""
    conversion = CONVERSIONS.get(resource.qualified_name)
    return Splicer(resource) if conversion is None else ConvertingSplicer(resource, conversion)
