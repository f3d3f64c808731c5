"""What a user means by ``svc``, ``svc,pods``, ``svc/web`` or ``pod web-1 web-2``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nodeport.api.meta import JsonObject
from nodeport.api.resources import RESOURCES, Resource, by_kind, matching
from nodeport.cli.errors import UserError


@dataclass(frozen=True, slots=True)
class Selection:
    """One resource and the names asked for; no names are all objects. ``several``: more than one type was named."""

    resource: Resource
    names: tuple[str, ...] = ()
    several: bool = False


def resources_named(words: str) -> list[Resource]:
    """The resources of a comma-separated list of types and categories, each once, in the order given."""
    found: dict[str, Resource] = {}
    for word in words.split(","):
        rows = list(matching(word))
        if not rows:
            raise UserError(f'the server doesn\'t have a resource type "{word}"')
        found.update({row.qualified_name: row for row in rows})
    return list(found.values())


def one_resource(word: str) -> Resource:
    rows = resources_named(word)
    if len(rows) != 1:
        raise UserError(f"one resource type is wanted here, {word!r} stands for {len(rows)}")
    return rows[0]


def select(arguments: Sequence[str]) -> list[Selection]:
    """``TYPE[,TYPE]``, ``TYPE NAME...`` or ``TYPE/NAME...``; the two forms cannot be mixed."""
    if not arguments:
        kinds = ", ".join(row.plural for row in RESOURCES if not row.stored_as)
        raise UserError(f"say which resource: one or several of {kinds}")
    if any("/" in argument for argument in arguments):
        return _pairs(arguments)
    rows = resources_named(arguments[0])
    names = tuple(arguments[1:])
    several = len(rows) > 1
    return [Selection(row, names, several) for row in rows]


def _pairs(arguments: Sequence[str]) -> list[Selection]:
    wanted: list[tuple[Resource, str]] = []
    for argument in arguments:
        word, slash, name = argument.partition("/")
        if not slash:
            raise UserError("there is no need to specify a resource type as a separate argument when passing "
                            "arguments in resource/name form")  # fmt: skip
        if not word or not name or "/" in name:
            raise UserError("arguments in resource/name form may not have more than one slash")
        wanted.append((one_resource(word), name))
    several = len({row.qualified_name for row, _ in wanted}) > 1
    return [Selection(row, (name,), several) for row, name in wanted]


def type_and_name(arguments: Sequence[str], usage: str) -> tuple[Resource, str]:
    """Exactly one object: ``TYPE NAME`` or ``TYPE/NAME``."""
    selections = select(arguments)
    if len(selections) != 1 or len(selections[0].names) != 1:
        raise UserError(f"exactly one object is wanted here: {usage}")
    return selections[0].resource, selections[0].names[0]


def resource_of(obj: JsonObject, source: str) -> Resource:
    """The resource of a manifest's ``apiVersion`` and ``kind``."""
    version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    if not kind or not isinstance(kind, str):
        raise UserError(f"error validating {source!r}: kind not set" if source else "kind not set")
    if not version or not isinstance(version, str):
        raise UserError(
            f"error validating {source!r}: apiVersion not set" if source else "apiVersion not set"
        )
    row = by_kind(version, kind)
    if row is None:
        metadata = obj.get("metadata") or {}
        raise UserError(
            f'resource mapping not found for name: "{metadata.get("name", "")}" namespace: '
            f'"{metadata.get("namespace", "")}" from "{source}": no matches for kind "{kind}" in version "{version}"'
        )
    return row


def spelled(resource: Resource, name: str) -> str:
    """How results name an object: ``service/web``, ``deployment.apps/web``."""
    return f"{singular(resource)}/{name}"


def singular(resource: Resource) -> str:
    return f"{resource.singular}.{resource.group}" if resource.group else resource.singular
