"""KubeProxyConfiguration from and to text, YAML or JSON.

Read strictly, as kube-proxy does: what is not known or given twice is a complaint. Complaints do not make a v1alpha1
file unusable, there as here; what has the wrong type or names another kind does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, get_args

import msgspec
import yaml

from nodeport.api.decoding import decode_json, decode_yaml
from nodeport.api.duration import go_duration, parse_duration
from nodeport.api.kubeproxy.types import API_VERSION, KIND, Duration, FlushFrequency, KubeProxyConfiguration
from nodeport.api.meta import JsonObject
from nodeport.api.status import ApiError
from nodeport.api.strictness import problems_of

_RANGES: Final = {int: range(-(2**31), 2**31)}


class ConfigurationError(Exception):
    """A text that is no KubeProxyConfiguration; one sentence that names the field."""


@dataclass(frozen=True, slots=True)
class Read:
    """``complaints``: unknown and repeated fields, in Kubernetes' words."""

    config: KubeProxyConfiguration
    complaints: list[str]


def read(text: bytes) -> Read:
    """Raises ConfigurationError."""
    try:
        decode = decode_json if text.lstrip()[:1] == b"{" else decode_yaml
        document, repeats = decode(text)
    except ApiError as error:
        raise ConfigurationError(f"failed to decode: {error.message}") from error
    _check_kind(document)
    given = _without_nulls(document)
    unknown = list(_unknown(given, KubeProxyConfiguration, ""))
    try:
        config = msgspec.convert(given, KubeProxyConfiguration, dec_hook=_custom, strict=True)
        _check_sizes(config, "")
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigurationError(f"failed to decode: {_sentence(error)}") from error
    return Read(config, problems_of(unknown, repeats))


def write(config: KubeProxyConfiguration) -> str:
    """YAML with every field, sorted, as kube-proxy's ``--write-config-to`` writes it."""
    return yaml.safe_dump(to_json(config), sort_keys=True, allow_unicode=True)


def to_json(value: msgspec.Struct) -> JsonObject:
    made: JsonObject = msgspec.to_builtins(value, enc_hook=_spelled)
    return {key: _listed(item) for key, item in made.items() if (key, item) != ("featureGates", {})}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _spelled(value: Any) -> str:
    if isinstance(value, timedelta):
        return go_duration(value)
    raise TypeError(f"{type(value).__name__} has no form in a configuration")


def _custom(wanted: type, value: Any) -> Any:
    if not issubclass(wanted, Duration):
        raise TypeError(f"no way to read a {wanted.__name__}")
    if wanted is FlushFrequency and type(value) is int:
        return FlushFrequency(microseconds=value // 1000)
    if not isinstance(value, str):
        raise ValueError(f"a duration is a text such as 30s, not {value!r}")
    return wanted(microseconds=parse_duration(value) // timedelta(microseconds=1))


def _check_kind(document: JsonObject) -> None:
    version, kind = document.get("apiVersion"), document.get("kind")
    if not version or not kind:
        missing = "Kind" if not kind else "apiVersion"
        raise ConfigurationError(f"failed to decode: Object '{missing}' is missing in the configuration")
    if (version, kind) != (API_VERSION, KIND):
        raise ConfigurationError(
            f'failed to decode: no kind "{kind}" is registered for version "{version}": '
            f'this proxy reads kind "{KIND}" of "{API_VERSION}"'
        )


def _without_nulls(value: Any) -> Any:
    """A null is a field that is not given."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _unknown(value: Any, wanted: Any, path: str) -> list[str]:
    """The dotted paths of fields that no struct has."""
    if not isinstance(value, dict) or not _is_struct(wanted):
        return []
    known = {field.encode_name: field.type for field in msgspec.structs.fields(wanted)}
    found: list[str] = []
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if key not in known:
            found.append(where)
        elif isinstance(item, list):
            for at, part in enumerate(item):
                found += _unknown(part, (get_args(known[key]) or (None,))[0], f"{where}[{at}]")
        else:
            found += _unknown(item, known[key], where)
    return found


def _is_struct(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)


def _check_sizes(value: msgspec.Struct, path: str) -> None:
    """Go's int32 ends where Python's int does not."""
    for field in msgspec.structs.fields(value):
        item = getattr(value, field.name)
        where = f"{path}.{field.name}" if path else field.name
        if isinstance(item, msgspec.Struct):
            _check_sizes(item, where)
        elif type(item) is int and item not in _RANGES[int]:
            raise ValueError(f"{where}: {item} does not fit into 32 bits")


def _sentence(error: Exception) -> str:
    """``conntrack.maxPerCore: expected `int | null`, got `str```: the field first, as everywhere."""
    problem, marker, path = str(error).partition(" - at `$")
    if not marker:
        return problem
    field = path.removesuffix("`").removeprefix(".")
    return f"{field}: {problem[:1].lower()}{problem[1:]}" if field else problem
