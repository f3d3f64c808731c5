"""ReplicationControllers, StatefulSets, DaemonSets and Jobs: what they start with and how they are deleted."""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.api.resources import DAEMON_SETS, JOBS, REPLICATION_CONTROLLERS, STATEFUL_SETS
from nodeport.api.validation.jobs import LEGACY_NAME_LABEL, LEGACY_UID_LABEL, NAME_LABEL, UID_LABEL
from nodeport.apiserver.strategies.base import Strategy, WriteContext

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_ORPHANING_JOB = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


class ReplicationControllerStrategy(Strategy):
    """Its pods outlive it unless the client asks otherwise: the default from before garbage collection."""

    default_propagation = "Orphan"

    def __init__(self) -> None:
        super().__init__(REPLICATION_CONTROLLERS)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {"replicas": 0}


class StatefulSetStrategy(Strategy):
    def __init__(self) -> None:
        super().__init__(STATEFUL_SETS)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {"replicas": 0, "availableReplicas": 0}


class DaemonSetStrategy(Strategy):
    """An annotation counts the template's changes, for clients from before ControllerRevisions."""

    def __init__(self) -> None:
        super().__init__(DAEMON_SETS)

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        _note_template(obj, 1)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0,
        }  # fmt: skip

    def prepare_update(self, new: JsonObject, old: JsonObject, context: WriteContext) -> None:
        super().prepare_update(new, old, context)
        text = str((old["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, ""))
        count = int(text) if text.isdecimal() else 0
        changed = (new.get("spec") or {}).get("template") != (old.get("spec") or {}).get("template")
        _note_template(new, count + 1 if changed else count)


def _note_template(obj: JsonObject, count: int) -> None:
    metadata = obj["metadata"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), TEMPLATE_GENERATION: str(count)}


class JobStrategy(Strategy):
    """Unless it brings its own, a Job gets a selector that nothing else can share: its uid."""

    default_propagation = "Orphan"
    default_propagation_warning = _ORPHANING_JOB

    def __init__(self) -> None:
        super().__init__(JOBS)

    def prepare_create(self, obj: JsonObject, context: WriteContext) -> None:
        super().prepare_create(obj, context)
        spec = obj.get("spec") or {}
        if spec.get("manualSelector"):
            return
        name, uid = obj["metadata"].get("name") or "", obj["metadata"]["uid"]
        template = spec["template"] = spec.get("template") or {}
        metadata = template["metadata"] = template.get("metadata") or {}
        generated = {UID_LABEL: uid, NAME_LABEL: name, LEGACY_UID_LABEL: uid, LEGACY_NAME_LABEL: name}
        metadata["labels"] = {**generated, **(metadata.get("labels") or {})}
        if not obj["metadata"].get("labels"):
            obj["metadata"]["labels"] = dict(metadata["labels"])
        selector = spec["selector"] = spec.get("selector") or {}
        selector["matchLabels"] = {UID_LABEL: uid, **(selector.get("matchLabels") or {})}
