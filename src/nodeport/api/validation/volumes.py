"""Rules on a pod's volumes: names and that each has one source; of sources, what every user of them needs."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, duplicate, forbidden, invalid, required

_NEEDED = {
    "hostPath": "path", "secret": "secretName", "configMap": "name", "persistentVolumeClaim": "claimName",
}  # fmt: skip


def validate_volumes(volumes: list[JsonObject], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, volume in enumerate(volumes):
        where, name = f"{path}[{index}]", volume.get("name") or ""
        if not name:
            yield required(f"{where}.name")
        for why in names.dns_label(name) if name else ():
            yield invalid(f"{where}.name", name, why)
        if name in seen:
            yield duplicate(f"{where}.name", name)
        seen.add(name)
        yield from _source(volume, where)


def _source(volume: JsonObject, path: str) -> Iterator[FieldError]:
    sources = [field for field, value in volume.items() if field != "name" and value is not None]
    if not sources:
        yield required(path, "must specify a volume type")
    for field in sources[1:]:
        yield forbidden(f"{path}.{field}", "may not specify more than 1 volume type")
    for field in sources[:1]:
        needed = _NEEDED.get(field)
        if needed and not volume[field].get(needed):
            yield required(f"{path}.{field}.{needed}")
        mode = volume[field].get("defaultMode")
        if mode is not None and not 0 <= mode <= 0o777:
            detail = "must be a number between 0 and 0777 (octal), both inclusive"
            yield invalid(f"{path}.{field}.defaultMode", mode, detail)
