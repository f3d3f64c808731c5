"""Probes: when to ask, and what the answers add up to. Pure: results in, verdict out; `prober` asks.

Rule source: https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Any

from nodeport.kit.clock import bounded_seconds
from nodeport.node import actions
from nodeport.node.actions import Action


class ProbeKind(Enum):
    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe of a container, all defaults filled in. ``grace``: what a container has to end; None: the pod's."""

    kind: ProbeKind
    action: Action
    initial_delay: timedelta = timedelta(0)
    period: timedelta = timedelta(seconds=10)
    timeout: timedelta = timedelta(seconds=1)
    success_threshold: int = 1
    failure_threshold: int = 3
    grace: timedelta | None = None


class Outcome(Enum):
    """``WARNING`` is a success that has something to say; ``UNKNOWN``: could not ask, which counts as nothing."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    outcome: Outcome
    output: str = ""

    @property
    def success(self) -> bool:
        return self.outcome in (Outcome.SUCCESS, Outcome.WARNING)


@dataclass(frozen=True, slots=True)
class ProbeState:
    """What a probe's results add up to. ``verdict`` None: not decided yet.

    Until decided, a container counts as not ready and not started, but as alive.
    """

    probe: Probe
    verdict: bool | None = None
    run: int = 0
    last: ProbeResult | None = None

    def record(self, result: ProbeResult) -> ProbeState:
        """The state after one more result: a verdict changes after a threshold of equal results in a row."""
        if result.outcome is Outcome.UNKNOWN:
            return self
        same = self.last is not None and self.last.success == result.success
        run = self.run + 1 if same else 1
        threshold = self.probe.success_threshold if result.success else self.probe.failure_threshold
        verdict = result.success if run >= threshold else self.verdict
        return replace(self, verdict=verdict, run=run, last=result)

    @property
    def must_restart(self) -> bool:
        """A failed liveness or startup probe ends the container."""
        return self.verdict is False and self.probe.kind is not ProbeKind.READINESS


def event(kind: ProbeKind, result: ProbeResult) -> tuple[str, str] | None:
    """(reason, message) of the warning that a result is worth; None: it is not worth any."""
    name = f"{kind.value.capitalize()} probe"
    match result.outcome:
        case Outcome.FAILURE:
            return "Unhealthy", f"{name} failed: {result.output}"
        case Outcome.WARNING:
            return "ProbeWarning", f"{name} warning: {result.output}"
        case Outcome.UNKNOWN:
            return "Unhealthy", f"{name} errored and resulted in unknown state: {result.output}"
    return None


def parse(container: Mapping[str, Any], kind: ProbeKind) -> Probe | None:
    """The container's probe of that kind, None when it has none."""
    spec = container.get(f"{kind.value}Probe")
    action = spec and actions.parse(spec, container)
    if not spec or action is None:
        return None

    def seconds(name: str, default: int) -> timedelta:
        return timedelta(seconds=spec.get(name) or default)

    grace = spec.get("terminationGracePeriodSeconds")
    return Probe(
        kind=kind,
        action=action,
        initial_delay=seconds("initialDelaySeconds", 0),
        period=seconds("periodSeconds", 10),
        timeout=seconds("timeoutSeconds", 1),
        success_threshold=spec.get("successThreshold") or 1,
        failure_threshold=spec.get("failureThreshold") or 3,
        grace=None if grace is None else bounded_seconds(grace),
    )
