"""Query parameters -> checked options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from nodeport.api.meta import JsonObject
from nodeport.api.selectors import FieldSelector, LabelSelector, parse_field_selector, parse_label_selector
from nodeport.api.status import (
    BadRequest,
    Cause,
    FieldError,
    FieldErrorType,
    Invalid,
    forbidden,
    invalid,
    not_supported,
    required,
)
from nodeport.apiserver.auth import User

Query = Mapping[str, str]
NOT_OLDER_THAN = "NotOlderThan"
EXACT = "Exact"
MANAGER_MAX_LENGTH = 128
SERVER = "kube-apiserver"
"""The manager of what the server writes by itself."""
_INTEGER, _LONGEST = re.compile(r"[-+]?[0-9]+"), 20
_POLICIES = ("Foreground", "Background", "Orphan")
_MATCH_AND_CONTINUE = "resourceVersionMatch is forbidden when continue is provided"


@dataclass(frozen=True, slots=True)
class ListOptions:
    """``resource_version``: None when not given. ``timeout_seconds`` 0: the server's choice."""

    label_selector: LabelSelector
    field_selector: FieldSelector
    resource_version: int | None = None
    match: str = ""
    limit: int = 0
    continue_token: str = ""
    watch: bool = False
    allow_bookmarks: bool = False
    send_initial_events: bool = False
    initial_events_given: bool = False
    timeout_seconds: int = 0


class WriteOptions(msgspec.Struct, frozen=True, gc=False):
    """``field_validation``: Ignore, Warn or Strict. ``user`` None: the server itself, to whom nothing is refused.

    ``field_manager``: whose the written fields are. ``size``: bytes of the body that the object came in.
    """

    dry_run: bool = False
    field_validation: str = "Warn"
    field_manager: str = SERVER
    force: bool = False
    user: User | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """None: not given; ``user`` None: the server itself."""

    grace_period_seconds: int | None = None
    propagation_policy: str = ""
    uid: str | None = None
    resource_version: str | None = None
    dry_run: bool = False
    user: User | None = None


def invalid_options(kind: str, errors: list[FieldError]) -> Invalid:
    """422 about the options of a request rather than its object."""
    unique = list(dict.fromkeys(str(error) for error in errors))
    shown = unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"
    return Invalid(
        f'{kind}.meta.k8s.io "" is invalid: {shown}',
        details={"group": "meta.k8s.io", "kind": kind},
        causes=[Cause(error.type.value[0], error.body(), error.field) for error in errors],
    )


def flag(query: Query, name: str) -> bool:
    """True when the parameter is there with anything but ``0`` and ``false``."""
    value = query.get(name)
    return value is not None and value.lower() not in ("0", "false")


def integer(query: Query, name: str) -> int:
    value = query.get(name) or "0"
    if not _INTEGER.fullmatch(value):
        raise BadRequest(f'strconv.ParseInt: parsing "{value}": invalid syntax')
    if len(value) > _LONGEST or not -(1 << 63) <= int(value) < 1 << 63:
        raise BadRequest(f'strconv.ParseInt: parsing "{value}": value out of range')
    return int(value)


def revision(text: str) -> int | None:
    """A resourceVersion parameter as a number; None when absent."""
    if not text:
        return None
    is_number = text.isdecimal() and text.isascii()
    if not is_number or len(text.lstrip("0")) > 20 or int(text) >= 1 << 64:
        why = "value out of range" if is_number else "invalid syntax"
        detail = f'strconv.ParseUint: parsing "{text}": {why}'
        raise Invalid(
            f"resourceVersion: {invalid('resourceVersion', text, detail).body()}",
            causes=[Cause("FieldValueInvalid", detail, "resourceVersion")],
        )
    return int(text)


def list_options(query: Query) -> ListOptions:
    """Options of list, watch and deletecollection; the rules of resourceVersionMatch are checked here."""
    watch = flag(query, "watch")
    options = ListOptions(
        label_selector=parse_label_selector(query.get("labelSelector") or ""),
        field_selector=parse_field_selector(query.get("fieldSelector") or ""),
        resource_version=revision(query.get("resourceVersion") or ""),
        match=query.get("resourceVersionMatch") or "",
        limit=max(0, integer(query, "limit")),
        continue_token=query.get("continue") or "",
        watch=watch,
        allow_bookmarks=flag(query, "allowWatchBookmarks"),
        send_initial_events=flag(query, "sendInitialEvents"),
        initial_events_given="sendInitialEvents" in query,
        timeout_seconds=max(0, integer(query, "timeoutSeconds")),
    )
    errors = _watch_errors(options) if watch else _list_errors(options)
    if errors:
        raise invalid_options("ListOptions", errors)
    return options


def _watch_errors(options: ListOptions) -> list[FieldError]:
    found = []
    match = options.match
    if options.initial_events_given and match != NOT_OLDER_THAN:
        why = f"sendInitialEvents requires setting resourceVersionMatch to {NOT_OLDER_THAN}"
        found.append(forbidden("resourceVersionMatch", why))
    if not match:
        return found
    if not options.initial_events_given:
        why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        found.append(forbidden("resourceVersionMatch", why))
    if match != NOT_OLDER_THAN:
        found.append(not_supported("resourceVersionMatch", match, [NOT_OLDER_THAN]))
    if options.continue_token:
        found.append(forbidden("resourceVersionMatch", _MATCH_AND_CONTINUE))
    return found


def _list_errors(options: ListOptions) -> list[FieldError]:
    found = []
    match = options.match
    if match:
        if options.resource_version is None:
            why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            found.append(forbidden("resourceVersionMatch", why))
        if options.continue_token:
            found.append(forbidden("resourceVersionMatch", _MATCH_AND_CONTINUE))
        if match not in (EXACT, NOT_OLDER_THAN):
            found.append(not_supported("resourceVersionMatch", match, [EXACT, NOT_OLDER_THAN, ""]))
        if match == EXACT and options.resource_version == 0:
            why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            found.append(forbidden("resourceVersionMatch", why))
    if options.initial_events_given:
        found.append(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return found


def write_options(query: Query, kind: str, user: User, agent: str) -> WriteOptions:
    """``kind``: CreateOptions or UpdateOptions, for the error text. ``agent``: the User-Agent, which names the field
    manager when the client does not."""
    return _write_options(query, kind, user, agent, [])


def patch_options(query: Query, user: User, agent: str, *, applies: bool) -> WriteOptions:
    """Options of a PATCH. ``applies``: by server-side apply, which needs a manager and alone may use force."""
    errors = []
    if applies and not query.get("fieldManager"):
        errors.append(required("fieldManager", "is required for apply patch"))
    if not applies and "force" in query:
        errors.append(forbidden("force", "may not be specified for non-apply patch"))
    return _write_options(query, "PatchOptions", user, agent, errors)


def _write_options(query: Query, kind: str, user: User, agent: str, errors: list[FieldError]) -> WriteOptions:
    validation = query.get("fieldValidation") or "Warn"
    manager = query.get("fieldManager") or ""
    if len(manager.encode()) > MANAGER_MAX_LENGTH:
        errors.append(
            FieldError(FieldErrorType.TOO_LONG, "fieldManager", detail="may not be more than 128 bytes")
        )
    if not manager.isprintable():
        errors.append(invalid("fieldManager", manager, "should only contain printable characters"))
    dry_run = _dry_run(query)
    errors.extend(_dry_run_errors(dry_run))
    if validation not in ("Ignore", "Warn", "Strict"):
        errors.append(not_supported("fieldValidation", validation, ["Ignore", "Strict", "Warn"]))
    if errors:
        raise invalid_options(kind, errors)
    force = flag(query, "force")
    return WriteOptions(bool(dry_run), validation, manager or manager_of(agent), force, user)


@lru_cache(maxsize=256)
def manager_of(agent: str) -> str:
    """The field manager that a User-Agent stands for: what can be printed of what is before its first slash."""
    made = ""
    for character in agent.partition("/")[0]:
        if not character.isprintable():
            continue
        if len((made + character).encode()) > MANAGER_MAX_LENGTH:
            break
        made += character
    return made


def _dry_run(query: Query) -> list[str]:
    return query["dryRun"].split("\n") if "dryRun" in query else []


def _dry_run_errors(values: list[str]) -> list[FieldError]:
    """Whoever speaks of a dry run, however wrongly, must not have a real one."""
    return [not_supported("dryRun", values, ["All"])] if any(value != "All" for value in values) else []


def delete_options(query: Query, body: JsonObject, user: User) -> DeleteOptions:
    """Options from a DeleteOptions body, which wins, and from the query."""
    grace = body.get("gracePeriodSeconds")
    if grace is None and query.get("gracePeriodSeconds"):
        grace = integer(query, "gracePeriodSeconds")
    policy = body.get("propagationPolicy") or query.get("propagationPolicy") or ""
    orphan = body.get("orphanDependents")
    if orphan is None and "orphanDependents" in query:
        orphan = flag(query, "orphanDependents")
    dry_run = body.get("dryRun") or _dry_run(query)
    errors = []
    if policy and orphan is not None:
        errors.append(
            invalid(
                "propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"
            )
        )
    if policy not in ("", *_POLICIES):
        errors.append(not_supported("propagationPolicy", policy, [*_POLICIES, "nil"]))
    errors += _dry_run_errors(dry_run)
    if errors:
        raise invalid_options("DeleteOptions", errors)
    if not policy and orphan is not None:
        policy = "Orphan" if orphan else "Background"
    preconditions = body.get("preconditions") or {}
    return DeleteOptions(
        grace, policy, preconditions.get("uid"), preconditions.get("resourceVersion"), bool(dry_run), user
    )
