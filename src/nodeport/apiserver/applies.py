"""PATCH by server-side apply: a configuration in YAML or JSON, merged into the object or made into a new one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from nodeport.api import schema, yamltext
from nodeport.api.defaulting import apply_defaults
from nodeport.api.managedfields.applying import Applied, Apply, apply
from nodeport.api.managedfields.conflicts import Conflicts, answer
from nodeport.api.managedfields.entries import Entries, Owners, decode, encode
from nodeport.api.managedfields.fitting import faults, text_of
from nodeport.api.managedfields.updates import Scope
from nodeport.api.meta import JsonObject
from nodeport.api.numbers import whole
from nodeport.api.resources import GroupVersionKind
from nodeport.api.status import AlreadyExists, ApiError, BadRequest, NotFound, conflict
from nodeport.apiserver.bodies import prune
from nodeport.apiserver.options import WriteOptions
from nodeport.apiserver.registry import Registry, check_identity
from nodeport.apiserver.routes import Target
from nodeport.apiserver.writes import Writer, Written
from nodeport.kit.clock import rfc3339

ATTEMPTS = 5
_STRICT = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:"


@dataclass(frozen=True, slots=True)
class Configuration:
    """A decoded apply patch. ``repeated``: what is said of keys that were given twice, a line each."""

    object: JsonObject
    repeated: list[str] = field(default_factory=list)

    def warnings(self, field_validation: str) -> list[str]:
        """Warnings for keys given twice; 400 when validation is strict."""
        if not self.repeated or field_validation == "Ignore":
            return []
        if field_validation == "Strict":
            raise BadRequest("\n  ".join([_STRICT, *self.repeated]))
        return self.repeated


def read_configuration(data: bytes) -> Configuration:
    """The body of an apply patch; 400 when it is no YAML, which JSON is part of.

    JSON is read as such, which is many times faster, as long as it has no key twice and no number that is none to YAML:
    YAML tells the line of the one, and takes the other for a text.
    """
    if data[:1] == b"{":
        with suppress(BadRequest):
            obj, repeats = schema.decode_json(data)
            if not repeats:
                return Configuration(whole(obj))
    try:
        found, repeated = yamltext.load_with_lines(data.decode("utf-8", "replace"))
    except yamltext.YamlError as error:
        raise BadRequest(f"error decoding YAML: error converting YAML to JSON: {error}") from error
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise BadRequest(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "
            f"{_json_word(found)} into Go value of type map[string]interface {{}}"
        )
    return Configuration(found, [f'line {line}: key "{key}" already set in map' for line, key in repeated])


def _json_word(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case list():
            return "array"
    return "number"


def check_configuration(config: JsonObject, kind: GroupVersionKind, scope: Scope) -> None:
    """400 when the configuration is of another kind, holds managed fields or does not fit its schema."""
    version, name = config.get("apiVersion"), config.get("kind")
    if version != kind.api_version or name != kind.kind:
        raise BadRequest(f"invalid object type: {_shown_kind(str(version or ''), str(name or ''))}")
    metadata = config.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("managedFields"), list):
        raise BadRequest("metadata.managedFields must be nil")
    if found := faults(scope.type, config):
        raise BadRequest(f"failed to create typed patch object ({_shown(config, kind)}): {text_of(found)}")


def _shown(config: JsonObject, kind: GroupVersionKind) -> str:
    """``default/web; /v1, Kind=Service``."""
    metadata = config.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    who = f"{named.get('namespace') or ''}/{named.get('name') or ''}"
    return f"{who}; {_shown_kind(kind.api_version, kind.kind)}"


def _shown_kind(api_version: str, kind: str) -> str:
    """A group, version and kind as Go prints them: ``/v1, Kind=Service``."""
    return f"{api_version if '/' in api_version else '/' + api_version}, Kind={kind}"


def applied(request: Apply, live: JsonObject, owners: Owners) -> Applied:
    """``apply`` with conflicts as the 409 that tells them."""
    try:
        return apply(request, live, owners)
    except Conflicts as conflicts:
        raise answer(conflicts.found) from None


def fit(obj: JsonObject, schema_name: str, shown: str) -> None:
    """Bring a merged object into its stored form; 400 when a value is none of its type."""
    if problem := schema.check(schema_name, obj).type_error:
        raise BadRequest(f"failed to convert new typed object ({shown}) to object: {problem}")
    prune(schema_name, obj)
    if not isinstance(obj.get("metadata"), dict):
        obj["metadata"] = {}


class Applier:
    """Server-side apply of objects and their status; of Scales, with the help of who knows them."""

    def __init__(self, registry: Registry, writer: Writer) -> None:
        self._registry = registry
        self._writer = writer

    async def apply(self, target: Target, data: bytes, options: WriteOptions) -> Written:
        """Merge into what is there, or create it; whichever it is when nobody else is faster."""
        config = read_configuration(data)
        strategy = self._registry.entry(target.resource).strategy
        scope = self._writer.managers.scope(strategy, target.subresource)
        check_configuration(config.object, target.resource.gvk, scope)
        request = Apply(
            scope, config.object, options.field_manager, rfc3339(self._registry.clock.now()), options.force
        )
        warned = config.warnings(options.field_validation)
        written = await self._apply(target, request, options)
        return replace(written, warnings=[*warned, *written.warnings])

    async def _apply(self, target: Target, request: Apply, options: WriteOptions) -> Written:
        failed: ApiError | None = None
        for _ in range(ATTEMPTS):
            try:
                return await self._merge(target, request, options)
            except NotFound as error:
                if target.subresource or error.details.get("name") != target.name:
                    raise
            try:
                return await self._create(target, request, options)
            except AlreadyExists as error:
                failed = error
        assert failed is not None
        raise failed

    async def _merge(self, target: Target, request: Apply, options: WriteOptions) -> Written:
        entries: Entries = []

        def make(old: JsonObject) -> JsonObject:
            nonlocal entries
            done = applied(request, without_managers(old), decode(old["metadata"].get("managedFields")))
            entries = encode(done.owners)
            return self._fitted(target, done.object, request)

        return await self._writer.change(target, make, options, lambda _old, _new, _sent: entries)

    async def _create(self, target: Target, request: Apply, options: WriteOptions) -> Written:
        resource = target.resource
        await self._registry.admission.may_create(options.user, resource, target.namespace, target.name)
        live = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {}}
        done = applied(request, live, {})
        metadata = done.object.get("metadata") or {}
        if uid := metadata.get("uid"):
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise conflict(resource, target.name, why)
        metadata.pop("resourceVersion", None)
        obj = self._fitted(target, done.object, request)
        return await self._writer.create(target, obj, options, encode(done.owners))

    def _fitted(self, target: Target, obj: JsonObject, request: Apply) -> JsonObject:
        resource = target.resource
        fit(obj, resource.schema, _shown(request.config, resource.gvk))
        check_identity(obj, resource, target.namespace, target.name)
        apply_defaults(resource, obj)
        return obj


def without_managers(obj: JsonObject) -> JsonObject:
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}
