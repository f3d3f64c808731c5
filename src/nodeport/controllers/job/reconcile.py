"""Which pods a Job makes or removes, when it has ended, and what its status says: pure.

Rules: the Job controller of Kubernetes 1.36 without pod failure policies, success policies and limits per index, which
the API refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.api.resources import JOBS
from nodeport.controllers import conditions
from nodeport.controllers.job.indexes import INDEX, index_of, is_indexed
from nodeport.controllers.job.tracking import (
    FINALIZER,
    Tally,
    is_active,
    is_terminating,
    is_tracked,
    outcome,
    tally,
)
from nodeport.controllers.podcontrol import pod_from_template
from nodeport.controllers.selection import is_finished, is_ready
from nodeport.kit.clock import bounded_seconds, parse_rfc3339, rfc3339

MAX_BURST = 500
FIRST_BACKOFF, LONGEST_BACKOFF = timedelta(seconds=10), timedelta(minutes=10)

_TERMINAL = {"SuccessCriteriaMet": "Complete", "FailureTarget": "Failed"}


@dataclass(frozen=True, slots=True)
class Ending:
    """``target`` is the condition that says how the Job will end, before its last pods are gone."""

    target: str
    reason: str
    message: str


@dataclass(slots=True)
class JobPlan:
    """``create``: a completion index, or None, for each pod to make. ``withdraw``: pods to remove that must not count
    as failed; ``end``: those that may. ``release``: pods to lose their tracking finalizer after the status is
    written, ``track`` adopted ones to get it. ``expired``: the Job itself is to go."""

    status: JsonObject
    create: list[int | None] = field(default_factory=list)
    withdraw: list[JsonObject] = field(default_factory=list)
    end: list[JsonObject] = field(default_factory=list)
    release: list[JsonObject] = field(default_factory=list)
    track: list[JsonObject] = field(default_factory=list)
    expired: bool = False
    again: timedelta | None = None


def plan_job(job: JsonObject, pods: Sequence[JsonObject], now: datetime) -> JobPlan:
    """``pods``: the Job's own, finished ones too."""
    status = job.get("status") or {}
    if is_being_deleted(job):
        return JobPlan(status, release=_let_go(pods))
    if ended := ended_at(job):
        return _after_the_end(job, pods, ended, now)
    return _Pass(job, pods, tally(job, pods), now).plan()


def ended_at(job: JsonObject) -> str:
    """When the Job ended; empty while it has not."""
    listed = (job.get("status") or {}).get("conditions")
    for kind in _TERMINAL.values():
        found = conditions.find(listed, kind)
        if found is not None and found.get("status") == "True":
            return str(found.get("lastTransitionTime") or "")
    return ""


def _let_go(pods: Sequence[JsonObject]) -> list[JsonObject]:
    return [pod for pod in pods if is_tracked(pod) and (is_finished(pod) or is_being_deleted(pod))]


def _after_the_end(job: JsonObject, pods: Sequence[JsonObject], ended: str, now: datetime) -> JobPlan:
    plan = JobPlan(job["status"], end=[pod for pod in pods if is_active(pod)], release=_let_go(pods))
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    if seconds is not None:
        left = parse_rfc3339(ended) + timedelta(seconds=seconds) - now
        plan.expired = left <= timedelta()
        plan.again = None if plan.expired else left
    return plan


@dataclass(frozen=True, slots=True)
class _Pass:
    """One look at a Job that has not ended."""

    job: JsonObject
    pods: Sequence[JsonObject]
    tally: Tally
    now: datetime

    @property
    def spec(self) -> JsonObject:
        found: JsonObject = self.job["spec"]
        return found

    @property
    def active(self) -> list[JsonObject]:
        return [pod for pod in self.pods if is_active(pod)]

    def plan(self) -> JobPlan:
        status = self._status()
        plan = JobPlan(status, release=list(self.tally.release))
        plan.track = [pod for pod in self.active if not is_tracked(pod)]
        ending = self._ending(status)
        if ending is not None:
            plan.end = self.active
            self._tell_ending(status, ending)
        elif self.spec.get("suspend"):
            plan.withdraw = self.active
        else:
            self._fill(plan)
            plan.again = _sooner(plan.again, self._until_deadline(status))
        return plan

    # --- the end

    def _ending(self, status: JsonObject) -> Ending | None:
        for target in _TERMINAL:
            found = conditions.find(status.get("conditions"), target)
            if found is not None and found.get("status") == "True":
                return Ending(target, found.get("reason") or "", found.get("message") or "")
        left = self._until_deadline(status)
        if self._is_past_limit():
            text = "Job has reached the specified backoff limit"
            return Ending("FailureTarget", "BackoffLimitExceeded", text)
        if left is not None and left <= timedelta() and not self.spec.get("suspend"):
            text = "Job was active longer than specified deadline"
            return Ending("FailureTarget", "DeadlineExceeded", text)
        if self._is_complete():
            text = "Reached expected number of succeeded pods"
            return Ending("SuccessCriteriaMet", "CompletionsReached", text)
        return None

    def _is_complete(self) -> bool:
        wanted = self.spec.get("completions")
        if wanted is None:
            return self.tally.succeeded > 0 and not self.active
        return bool(self.tally.succeeded >= wanted)

    def _is_past_limit(self) -> bool:
        limit = self.spec.get("backoffLimit", 6)
        if self.tally.failed > limit:
            return True
        if self.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
            return False
        restarts = sum(_restarts(pod) for pod in self.active)
        return restarts >= limit if limit else restarts > 0

    def _until_deadline(self, status: JsonObject) -> timedelta | None:
        limit, started = self.spec.get("activeDeadlineSeconds"), status.get("startTime")
        if limit is None or not started:
            return None
        return parse_rfc3339(started) + bounded_seconds(limit) - self.now

    def _tell_ending(self, status: JsonObject, ending: Ending) -> None:
        """The final condition waits until the last pod is gone and counted."""
        self._set(status, ending.target, "True", ending.reason, ending.message)
        if not all(is_finished(pod) for pod in self.pods) or not self.tally.is_settled:
            return
        terminal = _TERMINAL[ending.target]
        self._set(status, terminal, "True", ending.reason, ending.message)
        if terminal == "Complete":
            status["completionTime"] = rfc3339(self.now)

    # --- pods

    def _fill(self, plan: JobPlan) -> None:
        """As many active pods as are wanted: fewer or more."""
        active, wanted = self.active, self._wanted()
        surplus = self._duplicates() if is_indexed(self.job) else []
        kept = [pod for pod in active if pod not in surplus]
        if len(kept) > wanted:
            worst = sorted(
                kept, key=lambda pod: (is_ready(pod), pod["metadata"].get("creationTimestamp") or "")
            )
            surplus += worst[: len(kept) - wanted]
        plan.withdraw = surplus[:MAX_BURST]
        missing = wanted - len(kept)
        if self.spec.get("podReplacementPolicy") == "Failed":
            missing -= sum(is_terminating(pod) for pod in self.pods)
        if missing <= 0 or surplus:
            return
        plan.again = self._backoff()
        if plan.again is None:
            plan.create = self._new_indexes(min(missing, MAX_BURST))

    def _wanted(self) -> int:
        parallelism, wanted = self.spec.get("parallelism", 1), self.spec.get("completions")
        if wanted is None:
            return len(self.active) if self.tally.succeeded else int(parallelism)
        return int(min(parallelism, max(0, wanted - self.tally.succeeded)))

    def _new_indexes(self, count: int) -> list[int | None]:
        if not is_indexed(self.job):
            return [None] * count
        taken = self.tally.indexes | {index_of(pod) for pod in self.pods if self._occupies(pod)}
        free = (index for index in range(self.spec["completions"]) if index not in taken)
        return [index for index, _ in zip(free, range(count), strict=False)]

    def _occupies(self, pod: JsonObject) -> bool:
        return not outcome(self.job, pod)

    def _duplicates(self) -> list[JsonObject]:
        """Active pods beyond the first of their index, or of an index that is done or out of range."""
        seen: set[int | None] = {None, *self.tally.indexes}
        found = []
        for pod in sorted(self.active, key=lambda each: each["metadata"].get("creationTimestamp") or ""):
            index = index_of(pod)
            if index in seen or (index or 0) >= self.spec["completions"]:
                found.append(pod)
            seen.add(index)
        return found

    def _backoff(self) -> timedelta | None:
        """How long to wait before the next try: longer after each failure in a row; None when not at all."""
        ends = sorted(
            (_finish_time(pod, self.now), outcome(self.job, pod)) for pod in self.pods if is_finished(pod)
        )
        row = 0
        while row < len(ends) and ends[-1 - row][1] == "failed":
            row += 1
        if not row:
            return None
        pause = min(FIRST_BACKOFF * 2 ** min(row - 1, 10), LONGEST_BACKOFF)
        left = ends[-1][0] + pause - self.now
        return left if left > timedelta() else None

    # --- status

    def _status(self) -> JsonObject:
        before = self.job.get("status") or {}
        counts = {"active": len(self.active), **self.tally.counted}
        status: JsonObject = {name: count for name, count in counts.items() if count}
        status["ready"] = sum(is_ready(pod) for pod in self.active)
        status["terminating"] = sum(is_terminating(pod) for pod in self.pods)
        status["uncountedTerminatedPods"] = {
            word: uids for word, uids in self.tally.uncounted.items() if uids
        }
        if indexes := self.tally.completed_indexes:
            status["completedIndexes"] = indexes
        for name in ("startTime", "conditions"):
            if before.get(name):
                status[name] = before[name]
        self._follow_suspension(status)
        return status

    def _follow_suspension(self, status: JsonObject) -> None:
        found = conditions.find(status.get("conditions"), "Suspended")
        was_suspended = found is not None and found.get("status") == "True"
        if self.spec.get("suspend"):
            status.pop("startTime", None)
            if not was_suspended:
                self._set(status, "Suspended", "True", "JobSuspended", "Job suspended")
            return
        if was_suspended:
            self._set(status, "Suspended", "False", "JobResumed", "Job resumed")
        status.setdefault("startTime", rfc3339(self.now))

    def _set(self, status: JsonObject, kind: str, value: str, reason: str, message: str) -> None:
        moment = rfc3339(self.now)
        condition = {
            "type": kind, "status": value, "lastProbeTime": moment, "lastTransitionTime": moment,
            "reason": reason, "message": message,
        }  # fmt: skip
        status["conditions"] = conditions.replaced(status.get("conditions"), condition)


def _sooner(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    return min((wait for wait in (one, other) if wait is not None), default=None)


def _restarts(pod: JsonObject) -> int:
    status = pod.get("status") or {}
    listed = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return sum(each.get("restartCount") or 0 for each in listed)


def _finish_time(pod: JsonObject, now: datetime) -> datetime:
    """When its last container ended; of a pod that tells no such time, when it was made."""
    listed = (pod.get("status") or {}).get("containerStatuses") or ()
    ends = [((each.get("state") or {}).get("terminated") or {}).get("finishedAt") for each in listed]
    last = max((end for end in ends if end), default=pod["metadata"].get("creationTimestamp"))
    return parse_rfc3339(last) if last else now


def new_pod(job: JsonObject, index: int | None) -> JsonObject:
    pod = pod_from_template(JOBS, job)
    metadata = pod["metadata"]
    metadata["finalizers"] = [*(metadata.get("finalizers") or ()), FINALIZER]
    if index is None:
        return pod
    name = f"{job['metadata']['name']}-{index}"
    metadata["generateName"] = f"{name}-"
    for field_name in ("labels", "annotations"):
        metadata[field_name] = {**(metadata.get(field_name) or {}), INDEX: str(index)}
    spec = dict(pod["spec"])
    spec["hostname"] = spec.get("hostname") or name
    for field_name in ("containers", "initContainers"):
        if spec.get(field_name):
            spec[field_name] = [_with_index(container) for container in spec[field_name]]
    pod["spec"] = spec
    return pod


def _with_index(container: JsonObject) -> JsonObject:
    path = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": path}
    before = container.get("env") or []
    if any(each.get("name") == variable["name"] for each in before):
        return container
    return {**container, "env": [*before, variable]}
