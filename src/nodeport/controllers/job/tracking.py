"""How many of a Job's pods have succeeded and failed, each counted once whatever becomes of the pod: pure.

A pod carries a finalizer until it is counted. Its uid is first written to ``uncountedTerminatedPods``, then the
finalizer goes, then the uid becomes a number: a crash between any two of these steps loses and doubles nothing. Of an
Indexed Job, ``completedIndexes`` is the record of success itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nodeport.api.meta import JsonObject, is_being_deleted
from nodeport.client.cache import uid
from nodeport.controllers.job.indexes import format_indexes, index_of, is_indexed, parse_indexes
from nodeport.controllers.selection import is_finished

FINALIZER = "batch.kubernetes.io/job-tracking"
SUCCEEDED, FAILED = "succeeded", "failed"


@dataclass(frozen=True, slots=True)
class Tally:
    """``counted`` go into the status as they are, ``uncounted`` are uids on their way there, ``release`` are the pods
    to lose their finalizer once the status is written."""

    counted: dict[str, int]
    uncounted: dict[str, list[str]]
    indexes: frozenset[int]
    release: tuple[JsonObject, ...]

    @property
    def succeeded(self) -> int:
        return self.counted[SUCCEEDED] + len(self.uncounted[SUCCEEDED])

    @property
    def failed(self) -> int:
        return self.counted[FAILED] + len(self.uncounted[FAILED])

    @property
    def is_settled(self) -> bool:
        return not any(self.uncounted.values())

    @property
    def completed_indexes(self) -> str:
        return format_indexes(self.indexes)


def is_tracked(pod: JsonObject) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def untracked(pod: JsonObject) -> JsonObject:
    """A merge patch that takes the finalizer away; the resourceVersion keeps others' finalizers."""
    meta = pod["metadata"]
    left = [name for name in meta.get("finalizers") or () if name != FINALIZER]
    return {
        "metadata": {
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "finalizers": left or None,
        }
    }


def tracked(pod: JsonObject) -> JsonObject:
    """A merge patch that puts the finalizer on an adopted pod."""
    meta = pod["metadata"]
    return {
        "metadata": {
            "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
            "finalizers": [*(meta.get("finalizers") or ()), FINALIZER],
        }
    }  # fmt: skip


def outcome(job: JsonObject, pod: JsonObject) -> str:
    """Empty while the pod may still succeed. One that is being deleted counts as failed at once, or, if the Job
    replaces failed pods only, when its node has ended it and nothing but finalizers keeps it."""
    phase = (pod.get("status") or {}).get("phase")
    if phase == "Succeeded":
        return SUCCEEDED
    if phase == "Failed":
        return FAILED
    if not is_being_deleted(pod):
        return ""
    only_failed = job["spec"].get("podReplacementPolicy") == "Failed"
    return "" if only_failed and pod["metadata"].get("deletionGracePeriodSeconds") else FAILED


def tally(job: JsonObject, pods: Sequence[JsonObject]) -> Tally:
    status = job.get("status") or {}
    counted = {word: status.get(word) or 0 for word in (SUCCEEDED, FAILED)}
    uncounted: dict[str, list[str]] = {SUCCEEDED: [], FAILED: []}
    by_uid = {uid(pod): pod for pod in pods if is_tracked(pod)}
    for word, uids in uncounted.items():
        for found in (status.get("uncountedTerminatedPods") or {}).get(word) or ():
            if found in by_uid:
                uids.append(found)
            else:
                counted[word] += 1
    known = {found for uids in uncounted.values() for found in uids}
    release = [by_uid[found] for found in known]
    indexes = _indexes(job, pods)
    for found, pod in by_uid.items():
        word = outcome(job, pod)
        if not word or found in known:
            continue
        release.append(pod)
        if not (word == SUCCEEDED and is_indexed(job)):
            uncounted[word].append(found)
    if is_indexed(job):
        counted[SUCCEEDED] = len(indexes)
    return Tally(counted, uncounted, indexes, tuple(release))


def _indexes(job: JsonObject, pods: Sequence[JsonObject]) -> frozenset[int]:
    if not is_indexed(job):
        return frozenset()
    total = job["spec"].get("completions") or 0
    done = parse_indexes((job.get("status") or {}).get("completedIndexes") or "")
    done |= {index for pod in pods if outcome(job, pod) == SUCCEEDED and (index := index_of(pod)) is not None}
    return frozenset(index for index in done if index < total)


def is_active(pod: JsonObject) -> bool:
    return not is_finished(pod) and not is_being_deleted(pod)


def is_terminating(pod: JsonObject) -> bool:
    return not is_finished(pod) and is_being_deleted(pod)
