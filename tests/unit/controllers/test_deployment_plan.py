"""Deployment plans, run against a simulated cluster until they settle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeport.api.meta import JsonObject
from nodeport.controllers.conditions import find
from nodeport.controllers.deployment.reconcile import DeploymentPlan, plan_deployment
from nodeport.controllers.deployment.revisions import (
    HASH_LABEL,
    REVISION,
    REVISION_HISTORY,
    template_hash,
)
from nodeport.controllers.deployment.rollout import bounds_of, size
from nodeport.controllers.deployment.status import is_complete, until_deadline


def deployment(replicas: int = 3, image: str = "v1", **spec: Any) -> JsonObject:
    template = {
        "metadata": {"labels": {"app": "web"}, "creationTimestamp": None},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }
    found = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    metadata = {"name": "web", "namespace": "ns", "uid": "d", "generation": 1, "annotations": {"note": "x"}}
    return {"metadata": metadata, "spec": found, "status": {}}


def rolling(surge: int | str, unavailable: int | str) -> JsonObject:
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


class World:
    """Stands in for the API and the ReplicaSet controller: pods turn ready one step after they were asked for."""

    def __init__(self, found: JsonObject) -> None:
        self.deployment = found
        self.sets: dict[str, JsonObject] = {}
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.events: list[str] = []
        self.broken: set[str] = set()

    def pass_once(self) -> DeploymentPlan:
        self.now += timedelta(seconds=1)
        plan = plan_deployment(
            self.deployment, list(self.sets.values()), old_pods=self._old_pods(), now=self.now
        )
        writes = [*([plan.create] if plan.create else []), *plan.update]
        for written in writes:
            name = written["metadata"]["name"]
            made = f"2026-01-01T00:00:{len(self.sets):02d}Z"
            metadata = {"uid": name, "creationTimestamp": made, "generation": 1, **written["metadata"]}
            self.sets[name] = {**written, "metadata": metadata}
        for old in plan.delete:
            del self.sets[old["metadata"]["name"]]
        self.events += plan.scaled
        metadata = self.deployment["metadata"]
        notes = {**metadata["annotations"], **({REVISION: str(plan.revision)} if plan.revision else {})}
        self.deployment = {
            **self.deployment, "metadata": {**metadata, "annotations": notes}, "status": plan.status
        }  # fmt: skip
        return plan

    def _old_pods(self) -> bool:
        image = self.deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        return any(
            (found.get("status") or {}).get("replicas")
            for found in self.sets.values()
            if found["spec"]["template"]["spec"]["containers"][0]["image"] != image
        )

    def pods_follow(self) -> None:
        for name, found in self.sets.items():
            image = found["spec"]["template"]["spec"]["containers"][0]["image"]
            running = size(found)
            ready = 0 if image in self.broken else running
            status = {"replicas": running, "readyReplicas": ready, "availableReplicas": ready}
            self.sets[name] = {**found, "status": {**status, "observedGeneration": 1}}

    def settle(self) -> None:
        for _ in range(60):
            before = str((self.sets, self.deployment["status"]))
            self.pass_once()
            self.pods_follow()
            if before == str((self.sets, self.deployment["status"])):
                return
        raise AssertionError("the rollout does not settle")

    def change(self, **spec: Any) -> None:
        image = spec.pop("image", None)
        changed = {**self.deployment["spec"], **spec}
        if image:
            changed["template"] = deployment(image=image)["spec"]["template"]
        metadata = {
            **self.deployment["metadata"],
            "generation": self.deployment["metadata"]["generation"] + 1,
        }
        self.deployment = {**self.deployment, "metadata": metadata, "spec": changed}

    def sizes(self) -> dict[str, int]:
        return {
            found["spec"]["template"]["spec"]["containers"][0]["image"]: size(found)
            for found in self.sets.values()
        }

    def condition(self, kind: str) -> tuple[str, str]:
        found = find(self.deployment["status"]["conditions"], kind)
        assert found is not None
        return found["status"], found["reason"]


def test_a_new_deployment_makes_one_replica_set_of_full_size() -> None:
    world = World(deployment())
    plan = world.pass_once()
    assert plan.create is not None
    name = template_hash(world.deployment["spec"]["template"], 0)
    assert plan.create["metadata"]["name"] == f"web-{name}"
    assert plan.create["metadata"]["labels"] == {"app": "web", HASH_LABEL: name}
    assert plan.create["spec"]["selector"]["matchLabels"] == {"app": "web", HASH_LABEL: name}
    assert plan.create["spec"]["template"]["metadata"]["labels"][HASH_LABEL] == name
    assert plan.create["metadata"]["annotations"]["note"] == "x"
    assert plan.create["spec"]["replicas"] == 3
    assert plan.scaled == (f"Scaled up replica set web-{name} from 0 to 3",)
    assert world.condition("Progressing") == ("True", "NewReplicaSetCreated")
    assert world.deployment["metadata"]["annotations"][REVISION] == "1"


def test_a_settled_deployment_says_what_kubectl_rollout_status_waits_for() -> None:
    world = World(deployment())
    world.settle()
    status = world.deployment["status"]
    assert is_complete(world.deployment, status)
    assert world.condition("Available") == ("True", "MinimumReplicasAvailable")
    assert world.condition("Progressing") == ("True", "NewReplicaSetAvailable")
    assert "unavailableReplicas" not in status
    plan = world.pass_once()
    assert (plan.create, plan.update, plan.delete) == (None, (), ())


@pytest.mark.parametrize(
    ("replicas", "strategy", "expected"),
    [
        (3, {}, (1, 0)),
        (10, rolling("25%", "25%"), (3, 2)),
        (1, rolling("25%", "25%"), (1, 0)),
        (4, rolling(0, 0), (0, 1)),
        (4, rolling(0, "10%"), (0, 1)),
        (4, rolling("100%", 0), (4, 0)),
        (2, rolling(1, 9), (1, 2)),
    ],
)
def test_surge_rounds_up_and_unavailable_rounds_down(
    replicas: int, strategy: JsonObject, expected: tuple[int, int]
) -> None:
    bounds = bounds_of(deployment(replicas, strategy=strategy))
    assert (bounds.surge, bounds.unavailable) == expected


def test_a_rolling_update_never_leaves_its_bounds_and_ends_with_the_new_template() -> None:
    world = World(deployment(4, strategy=rolling(1, 1)))
    world.settle()
    world.change(image="v2")
    for _ in range(20):
        world.pass_once()
        assert sum(world.sizes().values()) <= 5
        world.pods_follow()
        available = sum(found["status"]["availableReplicas"] for found in world.sets.values())
        assert available >= 3
    assert world.sizes() == {"v1": 0, "v2": 4}
    assert world.deployment["metadata"]["annotations"][REVISION] == "2"


def test_recreate_ends_every_old_pod_before_the_first_new_one() -> None:
    world = World(deployment(strategy={"type": "Recreate"}))
    world.settle()
    world.change(image="v2")
    plan = world.pass_once()
    assert (plan.create, world.sizes()) == (None, {"v1": 0})
    plan = world.pass_once()
    assert plan.create is None, "old pods still run"
    world.pods_follow()
    world.settle()
    assert world.sizes() == {"v1": 0, "v2": 3}


def test_going_back_reuses_the_old_replica_set_as_the_newest_revision() -> None:
    world = World(deployment())
    world.settle()
    world.change(image="v2")
    world.settle()
    world.change(image="v1")
    world.settle()
    assert world.sizes() == {"v1": 3, "v2": 0}
    [first] = [found for found in world.sets.values() if size(found)]
    assert first["metadata"]["annotations"][REVISION] == "3"
    assert first["metadata"]["annotations"][REVISION_HISTORY] == "1"


def test_scaling_a_settled_deployment_changes_only_the_size() -> None:
    world = World(deployment())
    world.settle()
    for replicas in (1, 5, 0, 2):
        world.change(replicas=replicas)
        world.settle()
        assert world.sizes() == {"v1": replicas}
        assert is_complete(world.deployment, world.deployment["status"])
    assert world.events[1].endswith("from 3 to 1")


def test_scaling_in_the_middle_of_a_rollout_gives_each_its_share() -> None:
    world = World(deployment(10, strategy=rolling(3, 2)))
    world.settle()
    world.broken = {"v2"}
    world.change(image="v2")
    for _ in range(10):
        world.pass_once()
        world.pods_follow()
    assert world.sizes() == {"v1": 8, "v2": 5}
    world.change(replicas=15)
    world.pass_once()
    assert world.sizes() == {"v1": 11, "v2": 7}, "18 pods in the proportion 8 to 5"


def test_a_stuck_rollout_is_said_after_the_deadline() -> None:
    world = World(deployment(progressDeadlineSeconds=60))
    world.broken = {"v1"}
    for _ in range(3):
        world.pass_once()
        world.pods_follow()
    wait = until_deadline(world.deployment, world.deployment["status"], world.now)
    assert wait is not None
    assert timedelta(seconds=50) < wait < timedelta(seconds=62)
    world.now += wait
    world.pass_once()
    assert world.condition("Progressing") == ("False", "ProgressDeadlineExceeded")
    assert world.condition("Available") == ("False", "MinimumReplicasUnavailable")


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    world = World(deployment())
    world.settle()
    world.change(image="v2", paused=True, replicas=4)
    world.settle()
    assert world.sizes() == {"v1": 4}
    assert world.condition("Progressing") == ("Unknown", "DeploymentPaused")
    world.change(paused=False)
    world.settle()
    assert world.sizes() == {"v1": 0, "v2": 4}


def test_old_revisions_beyond_the_limit_are_deleted() -> None:
    world = World(deployment(revisionHistoryLimit=1))
    for image in ("v1", "v2", "v3", "v4"):
        world.change(image=image)
        world.settle()
    assert world.sizes() == {"v3": 0, "v4": 3}


def test_a_hash_depends_on_the_template_and_collisions_only() -> None:
    template = deployment()["spec"]["template"]
    same = {"spec": template["spec"], "metadata": {"labels": {"app": "web"}}}
    assert template_hash(template, 0) == template_hash(same, 0)
    assert template_hash(template, 0) != template_hash(template, 1)


SHARE = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "50%", "100%"]))
STEP = st.one_of(
    st.tuples(st.just("image"), st.sampled_from(["v1", "v2", "v3"])),
    st.tuples(st.just("replicas"), st.integers(0, 9)),
)


@settings(max_examples=120)
@given(surge=SHARE, unavailable=SHARE, steps=st.lists(STEP, min_size=1, max_size=6), moves=st.integers(0, 3))
def test_whatever_is_changed_when_it_settles_with_the_newest_template_alone(
    surge: int | str, unavailable: int | str, steps: list[tuple[str, Any]], moves: int
) -> None:
    world = World(deployment(3, strategy=rolling(surge, unavailable)))
    for field, value in steps:
        world.change(**{field: value})
        for _ in range(moves):
            world.pass_once()
            world.pods_follow()
    world.settle()
    wanted = world.deployment["spec"]["replicas"]
    image = world.deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert {name: count for name, count in world.sizes().items() if count} == (
        {image: wanted} if wanted else {}
    )
    assert is_complete(world.deployment, world.deployment["status"])
    assert world.condition("Progressing")[1] == "NewReplicaSetAvailable"
