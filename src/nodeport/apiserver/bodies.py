"""Request bodies -> objects that fit their schema, with the texts Kubernetes gives when they do not."""

from __future__ import annotations

import msgspec

from nodeport.api import protobuf, schema
from nodeport.api.decoding import check_version_and_kind
from nodeport.api.meta import JsonObject
from nodeport.api.numbers import OutOfRange, plain
from nodeport.api.resources import GroupVersionKind, by_kind
from nodeport.api.status import BadRequest, Cause, Invalid, invalid
from nodeport.api.strategic import go_text
from nodeport.api.strictness import Repeats, problems_of, warnings_of
from nodeport.apiserver.encoding import encode_sorted
from nodeport.apiserver.negotiation import PROTOBUF, YAML

SCHEME = "pkg/api/legacyscheme/scheme.go:30"
META_SCHEME = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"
"""Where the texts say that kinds are registered, and options of requests."""


class Body(msgspec.Struct, frozen=True, gc=False):
    """``media_type`` without parameters."""

    data: bytes
    media_type: str


def parse(body: Body, kind: str) -> tuple[JsonObject, Repeats]:
    """The object and the paths of its duplicate fields; 400 when it is no object at all. ``kind``: what it should have
    been, for the text; empty to say only what is wrong."""
    if body.media_type == PROTOBUF:
        return protobuf.decode(body.data), Repeats()
    if body.media_type == YAML:
        obj, duplicates = schema.decode_yaml(body.data, expected=kind)
    else:
        obj, duplicates = schema.decode_json(body.data, expected=kind, as_spelt=True)
    check_version_and_kind(obj, body.data, kind)
    return obj, duplicates


def read_object(
    body: Body, schema_name: str, expected: GroupVersionKind, field_validation: str, also: str = ""
) -> tuple[JsonObject, list[str]]:
    """A checked, pruned object of the expected kind and the warnings that it earned.

    ``also``: an older apiVersion of the same shape that is taken for the expected one.
    """
    obj, duplicates = parse(body, expected.kind)
    found_version = obj.get("apiVersion") or expected.api_version
    found_kind = obj.get("kind") or expected.kind
    if found_kind != expected.kind or found_version not in (expected.api_version, also):
        if why := conversion_fault(found_version, found_kind, expected):
            version = _version(found_version)
            raise BadRequest(
                f'{found_kind} in version "{version}" cannot be handled as a {expected.kind}: {why}'
            )
        raise BadRequest(
            f"the API version in the data ({found_version}) does not match the expected API version "
            f"({expected.api_version})"
        )
    obj["apiVersion"], obj["kind"] = expected.api_version, expected.kind
    report = schema.check(schema_name, obj)
    where = f'{expected.kind} in version "{expected.version}" cannot be handled as a {expected.kind}'
    if report.type_error:
        raise BadRequest(f"{where}: {report.type_error}")
    problems = problems_of(report.unknown, duplicates)
    if problems and field_validation == "Strict":
        raise BadRequest(f"{where}: strict decoding error: {', '.join(problems)}")
    prune(schema_name, obj)
    if duplicates.spelt:
        try:
            obj = plain(obj)
        except OutOfRange as error:
            raise BadRequest(f"{where}: {error}") from error
    return obj, warnings_of(problems) if field_validation == "Warn" else []


def conversion_fault(api_version: str, kind: str, expected: GroupVersionKind) -> str:
    """Why an object of this version and kind is none of the expected one; empty when it is, in another version.

    Objects are converted into the types without a version, whose packages are named after their groups.
    """
    row = by_kind(api_version, kind)
    if row is None:
        return unknown_kind(kind, api_version, SCHEME)
    package = expected.group.split(".")[0] if expected.group not in ("", "events.k8s.io") else "core"
    wanted = by_kind(expected.api_version, expected.kind)
    if wanted is not None and (row.stored_as or row.plural) == (wanted.stored_as or wanted.plural):
        return ""
    return f"converting ({_version(api_version)}.{kind}) to ({package}.{expected.kind}): unknown conversion"


def unknown_kind(kind: str, api_version: str, scheme: str) -> str:
    return f'no kind "{kind}" is registered for version "{api_version}" in scheme "{scheme}"'


def prune(schema_name: str, obj: JsonObject) -> None:
    """Drop what a decode into Go structs would lose, but keep the empty list that asks to forget all field managers."""
    forgets = (obj.get("metadata") or {}).get("managedFields") == []
    schema.prune(schema_name, obj)
    if forgets:
        obj.setdefault("metadata", {})["managedFields"] = []


def check_patched(obj: JsonObject, schema_name: str, patch: PatchText, field_validation: str) -> list[str]:
    """Check and prune the outcome of a patch; 422 on the field ``patch`` where a whole object would give 400."""
    report = schema.check(schema_name, obj)
    if report.type_error:
        text = report.type_error if patch.merged is None else report.conversion_error
        raise invalid_patch(obj, patch, text or report.type_error)
    problems = [*patch.problems, *problems_of(report.unknown, patch.repeats, patched=True)]
    if problems and field_validation == "Strict":
        raise invalid_patch(obj, patch, f"strict decoding error: {', '.join(problems)}")
    prune(schema_name, obj)
    return problems if field_validation == "Warn" else []


class PatchText(msgspec.Struct, frozen=True):
    """What is wrong with a patch's own text.

    ``merged``: a strategic patch, which complaints show as Go shows maps; of others they show what came of them.
    """

    repeats: list[str] = []
    problems: list[str] = []
    merged: JsonObject | None = None


def invalid_patch(obj: JsonObject, patch: PatchText, detail: str) -> Invalid:
    shown = encode_sorted(obj).decode() if patch.merged is None else go_text(patch.merged)
    error = invalid("patch", shown, detail)
    return Invalid(f' "" is invalid: {error}', causes=[Cause(error.type.value[0], error.body(), "patch")])


def _version(api_version: str) -> str:
    return api_version.rpartition("/")[2]
