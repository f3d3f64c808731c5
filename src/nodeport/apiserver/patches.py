"""PATCH: four kinds of patches, applied to the newest object until nobody was faster."""

from __future__ import annotations

from dataclasses import replace

from nodeport.api.decoding import JsonError, decode_value, json_kind
from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject
from nodeport.api.numbers import whole
from nodeport.api.patch import json_patch, merge_patch, strategic_merge_patch
from nodeport.api.resources import GroupVersionKind
from nodeport.api.status import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from nodeport.api.strictness import Repeats, problems_of
from nodeport.apiserver.applies import Applier
from nodeport.apiserver.bodies import Body, PatchText, check_patched, conversion_fault, invalid_patch
from nodeport.apiserver.options import WriteOptions
from nodeport.apiserver.registry import check_identity
from nodeport.apiserver.routes import Target
from nodeport.apiserver.writes import Writer, Written

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
MAX_JSON_PATCH_OPERATIONS = 10_000
_GO_FLOAT = "Go value of type float64"
_GO_VALUE = "Go struct field jsonPatchOp.value of type float64"
"""What a number becomes in a patch, and in an operation of one."""
_OPERATION_FIELDS = ("op", "path", "from", "value")


def check_patch_type(media_type: str) -> None:
    """415 for what is no kind of patch."""
    if media_type not in PATCH_TYPES:
        accepted = ", ".join(PATCH_TYPES)
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: " + accepted
        )


class Patcher:
    def __init__(self, writer: Writer, applier: Applier) -> None:
        self._writer = writer
        self._applier = applier

    async def patch(self, target: Target, body: Body, options: WriteOptions) -> Written:
        if body.media_type == APPLY_PATCH:
            return await self._applier.apply(target, body.data, options)
        patch = Patch(target.resource.schema, body, options, target.resource.gvk)

        def make(old: JsonObject) -> JsonObject:
            new = patch.apply(old)
            check_identity(new, target.resource, target.namespace, target.name)
            apply_defaults(target.resource, new)
            return new

        written = await self._writer.change(target, make, options)
        return replace(written, warnings=[*patch.warnings, *written.warnings])


class Patch:
    """A decoded patch. ``apply`` may be called again on a newer object; ``warnings`` are those of the last time."""

    def __init__(self, schema_name: str, body: Body, options: WriteOptions, gvk: GroupVersionKind) -> None:
        self._media_type = body.media_type
        self._gvk = gvk
        self._schema_name = schema_name
        self._validation = options.field_validation
        self.warnings: list[str] = []
        self._patch: JsonObject = {}
        self._operations: list[JsonObject] = []
        match body.media_type:
            case "application/json-patch+json":
                self._operations, self._text = decode_operations(body.data)
            case "application/merge-patch+json":
                self._patch, repeats = decode_patch(body.data, "error decoding patch: ")
                if body.data.strip() == b"null":
                    raise BadRequest("Invalid JSON Patch")
                self._text = PatchText(repeats)
            case _:
                self._patch, repeats = decode_patch(body.data)
                self._text = PatchText(repeats, merged=self._patch)

    def apply(self, old: JsonObject) -> JsonObject:
        """A new object; 422 or 400 when the patch does not fit."""
        match self._media_type:
            case "application/json-patch+json":
                new = json_patch(old, self._operations)
            case "application/merge-patch+json":
                new = merge_patch(old, self._patch)
            case _:
                new = strategic_merge_patch(self._schema_name, old, whole(self._patch))
        if not isinstance(new.get("metadata"), dict):
            new["metadata"] = {}
        self._check_kind(new)
        self.warnings = check_patched(new, self._schema_name, self._text, self._validation)
        return new

    def _check_kind(self, new: JsonObject) -> None:
        """What came of a strategic patch is read as the kind that it was, whatever it says; of others as it says."""
        version, kind = new.get("apiVersion") or self._gvk.api_version, new.get("kind") or self._gvk.kind
        if self._text.merged is not None and not (isinstance(version, str) and isinstance(kind, str)):
            return  # what is no text is told with the other fields
        other = version != self._gvk.api_version or kind != self._gvk.kind
        if other and self._text.merged is None and (why := conversion_fault(version, kind, self._gvk)):
            raise invalid_patch(new, self._text, why)
        new["apiVersion"], new["kind"] = self._gvk.api_version, self._gvk.kind


def decode_patch(data: bytes, head: str = "") -> tuple[JsonObject, Repeats]:
    """A patch that is one JSON object; 400 for anything else, with ``head`` before what is wrong."""
    try:
        found, repeats = decode_value(data)
    except JsonError as error:
        raise BadRequest(f"{head}{error}") from error
    if not isinstance(found, dict | None):
        kind = json_kind(found)
        raise BadRequest(
            f"{head}json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )
    return found or {}, repeats


def decode_operations(data: bytes) -> tuple[list[JsonObject], PatchText]:
    """The operations of a JSON patch; 400 when it is no list of objects, 413 when it is too long."""
    try:
        found, repeats = decode_value(data)
    except JsonError as error:
        told = str(error).replace(_GO_FLOAT, _GO_VALUE)
        raise BadRequest(f"error decoding patch: {told}") from error
    wrong = (
        found if not isinstance(found, list) else next((op for op in found if not isinstance(op, dict)), None)
    )
    if wrong is not None:
        kind = json_kind(wrong)
        expected = "handlers.jsonPatchOp" if isinstance(found, list) else "[]handlers.jsonPatchOp"
        raise BadRequest(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type {expected}"
        )
    operations = [op or {} for op in found or []]
    if len(operations) > MAX_JSON_PATCH_OPERATIONS:
        raise RequestEntityTooLarge(
            "Request entity too large: The allowed maximum operations in a JSON patch is "
            f"{MAX_JSON_PATCH_OPERATIONS}, got {len(operations)}"
        )
    unknown = [
        f"[{at}].{key}" for at, op in enumerate(operations) for key in op if key not in _OPERATION_FIELDS
    ]
    known = Repeats(path for path in repeats if path.partition("].")[2] in _OPERATION_FIELDS)
    known.places, known.again = repeats.places, repeats.again
    return operations, PatchText(problems=[f"json patch {text}" for text in problems_of(unknown, known)])
