"""The managers of one object: ``metadata.managedFields`` read, capped, sorted and written.

Rules: the managed fields of Kubernetes 1.36. A manager is told apart by name, operation and subresource, and by version
where it did not apply. At most ten entries come from updates; older ones become one called ``ancient-changes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nodeport.api.managedfields.sets import Tree, ordered, read, union
from nodeport.kit.clock import parse_rfc3339, rfc3339

APPLY, UPDATE = "Apply", "Update"
FIELDS_V1 = "FieldsV1"
UNKNOWN = "unknown"
MOST_UPDATERS = 10
ANCIENT = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"

_IDENTITY = ("operation", "manager", "apiVersion", "subresource")

Entries = list[dict[str, Any]]
"""``managedFields`` as it is on the wire."""


class Unreadable(ValueError):
    """Entries that a client made and that cannot be understood."""


class Manager(NamedTuple):
    """Who an entry belongs to. ``api_version`` is empty for those who apply."""

    name: str
    operation: str
    api_version: str
    subresource: str


@dataclass(frozen=True, slots=True)
class Owned:
    """What a manager owns: a set in order. ``time`` is RFC 3339, None when it is not known.

    ``entry``: the entry that says all this already, where there is one.
    """

    fields: Tree
    api_version: str
    time: str | None = None
    entry: dict[str, Any] | None = field(default=None, compare=False, repr=False)

    def having(self, fields: Tree) -> Owned:
        """The same with other fields."""
        return Owned(fields, self.api_version, self.time)

    def at(self, time: str) -> Owned:
        """The same at another time."""
        entry = None if self.entry is None else {**self.entry, "time": time}
        return Owned(self.fields, self.api_version, time, entry)


Owners = dict[Manager, Owned]


def updater(name: str, api_version: str, subresource: str = "") -> Manager:
    return Manager(name or UNKNOWN, UPDATE, api_version, subresource)


def applier(name: str, subresource: str = "") -> Manager:
    return Manager(name, APPLY, "", subresource)


def is_reset(entries: Any) -> bool:
    """Whether a client asks to forget all managers: an empty list, or a list of one empty entry."""
    return isinstance(entries, list) and (
        not entries or (len(entries) == 1 and not _says_something(entries[0]))
    )


def _says_something(entry: Mapping[str, Any] | None) -> bool:
    return any(value not in (None, "") for value in (entry or {}).values())


def decode(entries: Iterable[dict[str, Any]] | None, *, trusted: bool = True) -> Owners:
    """The owners in ``entries``. ``trusted``: we wrote them ourselves, so that their sets are spelled our way.

    Unreadable when they are not trusted and wrong.
    """
    owners: Owners = {}
    for index, entry in enumerate(entries or ()):
        if not trusted:
            _check(entry, index)
        operation, version = entry["operation"], entry["apiVersion"]
        manager = Manager(
            entry.get("manager") or "",
            operation,
            version if operation == UPDATE else "",
            entry.get("subresource") or "",
        )
        fields = entry.get("fieldsV1")
        time = entry.get("time")
        owners[manager] = (
            Owned(fields or {}, version, time, entry)
            if trusted
            else Owned(_read(fields), version, _in_utc(time))
        )
    return owners


def _check(entry: Mapping[str, Any], index: int) -> None:
    if not isinstance(entry, Mapping) or entry.get("operation") not in (APPLY, UPDATE):
        raise Unreadable("operation must be `Apply` or `Update`")
    if not entry.get("apiVersion"):
        raise Unreadable("apiVersion must not be empty")
    kind = entry.get("fieldsType")
    if not kind:
        raise Unreadable(f"missing fieldsType in managed fields entry {index}")
    if kind != FIELDS_V1:
        raise Unreadable(f'invalid fieldsType "{kind}" in managed fields entry {index}')


def _read(fields: Any) -> Tree:
    try:
        return ordered(read(fields))
    except (TypeError, ValueError) as error:
        raise Unreadable(f"error decoding set: {error}") from error


def _in_utc(time: Any) -> str | None:
    """A client's time as we write it: whole seconds, ``Z``."""
    if time is None:
        return None
    try:
        return rfc3339(parse_rfc3339(time))
    except (TypeError, ValueError) as error:
        raise Unreadable(f"no time: {time}") from error


def encode(owners: Owners) -> Entries:
    """``managedFields`` in the order in which they are served; managers without fields are left out."""
    found = sorted(((manager, owned) for manager, owned in owners.items() if owned.fields), key=_rank)
    return [owned.entry or _entry(manager, owned) for manager, owned in found]


def _rank(pair: tuple[Manager, Owned]) -> tuple[str, str, str, str, str]:
    manager, owned = pair
    return manager.operation, owned.time or "", manager.name, owned.api_version, manager.subresource


def _entry(manager: Manager, owned: Owned) -> dict[str, Any]:
    made: dict[str, Any] = {"manager": manager.name} if manager.name else {}
    made |= {"operation": manager.operation, "apiVersion": owned.api_version}
    if owned.time is not None:
        made["time"] = owned.time
    made["fieldsType"] = FIELDS_V1
    made["fieldsV1"] = owned.fields
    if manager.subresource:
        made["subresource"] = manager.subresource
    return made


def equal_but_for_time(ours: Entries | None, theirs: Entries | None) -> bool:
    """Whether two lists say the same, whenever it was."""
    ours, theirs = ours or [], theirs or []
    return len(ours) == len(theirs) and _without_times(ours) == _without_times(theirs)


def _without_times(entries: Entries) -> list[dict[str, Any]]:
    return sorted(
        ({key: value for key, value in entry.items() if key != "time"} for entry in entries),
        key=lambda entry: tuple(entry.get(name) or "" for name in _IDENTITY),
    )


def capped(owners: Owners) -> Owners:
    """At most ``MOST_UPDATERS`` managers that updated: the oldest of a version are put together."""
    updaters = [manager for manager in owners if manager.operation == UPDATE]
    excess = len(updaters) - MOST_UPDATERS
    if excess <= 0:
        return owners
    made = dict(owners)
    updaters.sort(key=lambda manager: (made[manager].time or "", manager))
    first: dict[str, Manager] = {}
    for manager in updaters:
        if excess <= 0:
            break
        version = made[manager].api_version
        if version not in first:
            first[version] = manager
            continue
        _pour(made, manager, first[version])
        excess -= 1
    return made


def _pour(owners: Owners, manager: Manager, first: Manager) -> None:
    """Move what ``manager`` owns into its version's bucket, which begins as what ``first`` owned."""
    moved = owners[manager]
    bucket = updater(ANCIENT, moved.api_version)
    if bucket not in owners:
        begun = owners.pop(first)
        owners[bucket] = begun.having(begun.fields)
    if manager == bucket:
        return
    del owners[manager]
    owners[bucket] = moved.having(union(owners[bucket].fields, moved.fields))
