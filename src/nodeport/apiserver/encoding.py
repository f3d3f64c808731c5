"""How objects lie in the store, and how stored bytes become served bytes without being decoded.

A stored value is the object's JSON with ``metadata`` first and without ``apiVersion``, ``kind`` and
``metadata.resourceVersion``: the first two are known from the key, the last is the key's mod revision. So serving is
putting a head before the stored bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.store.base import KeyValue

ROOT = "/registry/"
STORED_HEAD = b'{"metadata":{'
_HEAD_LENGTH = len(STORED_HEAD)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def encode(value: object) -> bytes:
    """Compact JSON."""
    return _encoder.encode(value)


def encode_sorted(value: object) -> bytes:
    """Compact JSON with fields in order, as error texts show objects."""
    return msgspec.json.encode(value, order="sorted")


def decode(data: bytes) -> JsonObject:
    """JSON that we wrote ourselves."""
    found: JsonObject = _decoder.decode(data)
    return found


def prefix_of(resource: Resource, namespace: str = "") -> str:
    """The store prefix of a collection; of all namespaces when ``namespace`` is empty."""
    root = f"{ROOT}{resource.stored_as or resource.qualified_name}/"
    return f"{root}{namespace}/" if namespace and resource.namespaced else root


def key_of(resource: Resource, namespace: str, name: str) -> str:
    return f"{prefix_of(resource, namespace)}{name}"


def encode_stored(obj: JsonObject) -> bytes:
    """The stored form of ``obj``, which stays as it is."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
    stored: JsonObject = {"metadata": metadata}
    for key, value in obj.items():
        if key not in ("metadata", "apiVersion", "kind"):
            stored[key] = value
    return _encoder.encode(stored)


@dataclass(frozen=True, slots=True)
class Splicer:
    """Serves stored bytes of one resource."""

    resource: Resource
    head: bytes = field(init=False)
    list_head: bytes = field(init=False)

    def __post_init__(self) -> None:
        kind, api_version = self.resource.kind, self.resource.api_version
        head = f'{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"'
        list_head = f'{{"kind":"{self.resource.list_kind}","apiVersion":"{api_version}","metadata":'
        object.__setattr__(self, "head", head.encode())
        object.__setattr__(self, "list_head", list_head.encode())

    def store(self, obj: JsonObject) -> bytes:
        """The stored form of ``obj``, which stays as it is."""
        return encode_stored(obj)

    def serve(self, stored: bytes, revision: int) -> bytes:
        """The whole object as of ``revision``."""
        return b'%b%d",%b' % (self.head, revision, stored[_HEAD_LENGTH:])

    def serve_without_revision(self, stored: bytes) -> bytes:
        """An object that was never written: the outcome of a dry run."""
        return self.head[: -len(b'"resourceVersion":"')] + stored[_HEAD_LENGTH:]

    def serve_list(self, items: Sequence[KeyValue], list_metadata: JsonObject) -> bytes:
        """A list: its items carry no ``kind`` and ``apiVersion``."""
        parts = [
            b'{"metadata":{"resourceVersion":"%d",%b' % (kv.mod_revision, kv.value[_HEAD_LENGTH:])
            for kv in items
        ]
        return b'%b%b,"items":[%b]}\n' % (self.list_head, encode(list_metadata), b",".join(parts))

    def read(self, kv: KeyValue) -> JsonObject:
        """The decoded object as clients see it: with ``apiVersion``, ``kind`` and ``resourceVersion``."""
        return self.read_as_of(kv.value, kv.mod_revision)

    def read_as_of(self, stored: bytes, revision: int) -> JsonObject:
        obj = decode(stored)
        obj["metadata"]["resourceVersion"] = str(revision)
        return {"kind": self.resource.kind, "apiVersion": self.resource.api_version, **obj}


class _LabelledMetadata(msgspec.Struct):
    labels: dict[str, str] | None = None


class Labelled(msgspec.Struct):
    """Only what label selectors look at: decoding skips the rest."""

    metadata: _LabelledMetadata


_label_decoder = msgspec.json.Decoder(Labelled)


def stored_labels(stored: bytes) -> dict[str, str]:
    return _label_decoder.decode(stored).metadata.labels or {}
