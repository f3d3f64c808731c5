"""Rules on probes and lifecycle hooks."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, forbidden, invalid, not_supported, required
from nodeport.api.validation.ports import validate_port, validate_port_reference

_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
_SECONDS_AND_COUNTS = (
    "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold",
)  # fmt: skip
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_NOT_NEGATIVE = "must be greater than or equal to 0"


def validate_hooks_and_probes(container: JsonObject, path: str, grace: int | None) -> Iterator[FieldError]:
    """``grace``: the pod's ``terminationGracePeriodSeconds``, which a hook may not outlast."""
    if container.get("lifecycle") is not None:
        for hook in ("postStart", "preStop"):
            if (handler := container["lifecycle"].get(hook)) is not None:
                yield from _handler(handler, f"{path}.lifecycle.{hook}", _HOOK_HANDLERS, grace)
    for field in _PROBES:
        if (probe := container.get(field)) is not None:
            yield from _probe(probe, f"{path}.{field}", ready=field == "readinessProbe")


def refuse_hooks_and_probes(container: JsonObject, path: str) -> Iterator[FieldError]:
    """Init containers that end have none."""
    for field in ("lifecycle", *_PROBES):
        if container.get(field) is not None:
            yield forbidden(
                f"{path}.{field}", "may not be set for init containers without restartPolicy=Always"
            )


def _probe(probe: JsonObject, path: str, *, ready: bool) -> Iterator[FieldError]:
    yield from _handler(probe, path, _HANDLERS, None)
    for field in _SECONDS_AND_COUNTS:
        value = probe.get(field) or 0
        if value < 0:
            yield invalid(f"{path}.{field}", value, _NOT_NEGATIVE)
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")
    if ready and grace is not None:
        yield invalid(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes")
    if not ready and probe.get("successThreshold") not in (None, 1):
        yield invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(
    holder: JsonObject, path: str, kinds: tuple[str, ...], grace: int | None
) -> Iterator[FieldError]:
    found = [kind for kind in kinds if holder.get(kind) is not None]
    for kind in found[:1]:
        yield from _action(kind, holder[kind], f"{path}.{kind}", grace)
    for kind in found[1:]:
        yield forbidden(f"{path}.{kind}", "may not specify more than 1 handler type")
    if not found:
        yield required(path, "must specify a handler type")


def _action(kind: str, action: JsonObject, path: str, grace: int | None) -> Iterator[FieldError]:
    match kind:
        case "exec":
            if not action.get("command"):
                yield required(f"{path}.command")
        case "httpGet":
            yield from _http_get(action, path)
        case "tcpSocket":
            yield from validate_port_reference(action.get("port", 0), f"{path}.port")
        case "grpc":
            yield from validate_port(action.get("port") or 0, f"{path}.port")
        case "sleep":
            seconds = action.get("seconds") or 0
            if grace is not None and not 0 <= seconds <= grace:
                detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                yield invalid(path, seconds, detail)


def _http_get(action: JsonObject, path: str) -> Iterator[FieldError]:
    if not action.get("path"):
        yield required(f"{path}.path")
    yield from validate_port_reference(action.get("port", 0), f"{path}.port")
    if action.get("scheme") not in ("HTTP", "HTTPS"):
        yield not_supported(f"{path}.scheme", action.get("scheme") or "", ("HTTP", "HTTPS"))
    for header in action.get("httpHeaders") or []:
        name = header.get("name") or ""
        yield from (invalid(f"{path}.httpHeaders", name, why) for why in names.http_header_name(name))
