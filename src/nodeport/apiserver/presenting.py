"""Answers in the form a client asked for: whole objects (stored bytes, spliced), Tables, or metadata only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from nodeport.api import yamltext
from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.apiserver.encoding import Splicer, decode, encode
from nodeport.apiserver.listing import Page
from nodeport.apiserver.negotiation import Form, Representation
from nodeport.apiserver.tables.view import TableView

METADATA_VERSION = "meta.k8s.io/v1"
Now = Callable[[], datetime]


def metadata_only(obj: JsonObject) -> JsonObject:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": METADATA_VERSION,
        "metadata": obj.get("metadata") or {},
    }


def render(
    resource: Resource, form: Form, include: str, now: Now
) -> Callable[[JsonObject], JsonObject] | None:
    """How one object is shown to whoever watches in this form; None: as it is stored."""
    match form:
        case Form.OBJECT:
            return None
        case Form.METADATA:
            return metadata_only
        case Form.TABLE:
            view = TableView(resource, include)
            return lambda obj: view.event(obj, now())


def present_object(
    resource: Resource, body: bytes, wanted: Representation, include: str, now: datetime
) -> bytes:
    """One served object in the wanted form."""
    match wanted.form:
        case Form.OBJECT:
            return _finish(body, wanted)
        case Form.METADATA:
            return _finish(encode(metadata_only(decode(body))), wanted)
        case Form.TABLE:
            obj = decode(body)
            list_metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return _finish(encode(TableView(resource, include).table([obj], list_metadata, now)), wanted)


def present_list(splicer: Splicer, page: Page, wanted: Representation, include: str, now: datetime) -> bytes:
    """A page of a collection in the wanted form."""
    match wanted.form:
        case Form.OBJECT:
            return _finish(splicer.serve_list(page.items, page.metadata()), wanted)
        case Form.METADATA:
            items = [metadata_only(splicer.read(kv)) for kv in page.items]
            found: JsonObject = {
                "kind": "PartialObjectMetadataList", "apiVersion": METADATA_VERSION, "metadata": page.metadata(),
                "items": items,
            }  # fmt: skip
            return _finish(encode(found), wanted)
        case Form.TABLE:
            objects = (splicer.read(kv) for kv in page.items)
            view = TableView(splicer.resource, include)
            return _finish(encode(view.table(objects, page.metadata(), now)), wanted)


def _finish(body: bytes, wanted: Representation) -> bytes:
    if wanted.yaml:
        return yamltext.dump(decode(body)).encode()
    if wanted.pretty:
        return msgspec.json.format(body, indent=2) + b"\n"
    return body if body.endswith(b"\n") else body + b"\n"
