"""Rules on what a container finds in its environment: ``env`` and ``envFrom``."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, invalid, required
from nodeport.api.validation.downward import (
    ENVIRONMENT_FIELDS,
    validate_amount_reference,
    validate_field_reference,
)

_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_ONE_OF = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
_TOO_MANY = "may not have more than one field specified at a time"


def validate_env(variables: list[JsonObject], path: str) -> Iterator[FieldError]:
    for index, variable in enumerate(variables):
        where, name = f"{path}[{index}]", variable.get("name") or ""
        if not name:
            yield required(f"{where}.name")
        for why in names.env_name(name) if name else ():
            yield invalid(f"{where}.name", name, why)
        if variable.get("valueFrom") is not None:
            yield from _value_from(variable, f"{where}.valueFrom")


def _value_from(variable: JsonObject, path: str) -> Iterator[FieldError]:
    found = variable["valueFrom"]
    sources = [field for field in _SOURCES if found.get(field) is not None]
    for field in sources:
        yield from _source(field, found[field], f"{path}.{field}")
    if not sources:
        yield invalid(path, "", _ONE_OF)
    elif variable.get("value"):
        yield invalid(path, "", "may not be specified when `value` is not empty")
    elif len(sources) > 1:
        yield invalid(path, "", _TOO_MANY)


def _source(field: str, source: JsonObject, path: str) -> Iterator[FieldError]:
    match field:
        case "fieldRef":
            yield from validate_field_reference(source, ENVIRONMENT_FIELDS, path)
        case "resourceFieldRef":
            yield from validate_amount_reference(source, path)
        case "fileKeyRef":
            for needed in ("volumeName", "path", "key"):
                if not source.get(needed):
                    yield required(f"{path}.{needed}")
        case _:
            name, key = source.get("name") or "", source.get("key") or ""
            yield from (invalid(f"{path}.name", name, why) for why in names.dns_subdomain(name))
            if not key:
                yield required(f"{path}.key")
            for why in names.config_key(key) if key else ():
                yield invalid(f"{path}.key", key, why)


def validate_env_from(sources: list[JsonObject], path: str) -> Iterator[FieldError]:
    for index, source in enumerate(sources):
        where, prefix = f"{path}[{index}]", source.get("prefix") or ""
        for why in names.env_name(prefix) if prefix else ():
            yield invalid(f"{where}.prefix", prefix, why)
        found = [field for field in ("configMapRef", "secretRef") if source.get(field) is not None]
        for field in found:
            yield from _whole(source[field].get("name") or "", f"{where}.{field}.name")
        if not found:
            yield invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
        elif len(found) > 1:
            yield invalid(path, "", _TOO_MANY)


def _whole(name: str, path: str) -> Iterator[FieldError]:
    """A trailing dash is let pass, as if something were to be appended."""
    if not name:
        yield required(path)
        return
    judged = f"{name[:-1]}a" if len(name) > 1 and name.endswith("-") else name
    yield from (invalid(path, name, why) for why in names.dns_subdomain(judged))
