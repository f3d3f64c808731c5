"""ServiceCIDRs: ready while they live, kept while addresses come from them alone, gone ten seconds after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nodeport.controllers.servicecidr.reconcile import BLOCKED, FINALIZER, CidrPlan, may_go, plan_cidr
from nodeport.kit.clock import rfc3339

Json = dict[str, Any]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def cidr(name: str, *cidrs: str, deleted: timedelta | None = None, **metadata: Any) -> Json:
    if deleted is not None:
        metadata["deletionTimestamp"] = rfc3339(NOW - deleted)
    return {"metadata": {"name": name, **metadata}, "spec": {"cidrs": list(cidrs)}}


def address(text: str, manager: str = "ipallocator.k8s.io") -> Json:
    return {"metadata": {"name": text, "labels": {"ipaddress.kubernetes.io/managed-by": manager}}}


def condition(status: str, reason: str, message: str) -> Json:
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": rfc3339(NOW),
    }


READY = condition("True", "", "Kubernetes Service CIDR is ready")


def test_a_new_range_gets_its_finalizer_and_is_ready() -> None:
    new = cidr("a", "10.0.0.0/24", finalizers=["x/y"])
    assert plan_cidr(new, [new], [], NOW) == CidrPlan(finalizers=["x/y", FINALIZER], conditions=[READY])


def test_a_range_that_is_ready_needs_nothing() -> None:
    settled = cidr("a", "10.0.0.0/24", finalizers=[FINALIZER]) | {"status": {"conditions": [READY]}}
    assert plan_cidr(settled, [settled], [], NOW) == CidrPlan()


def test_other_conditions_stay_and_the_time_is_that_of_the_last_change_of_status() -> None:
    old = {
        **READY,
        "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": "2025-01-01T00:00:00Z",
    }
    other = {"type": "Other", "status": "True"}
    found = cidr("a", "10.0.0.0/24", finalizers=[FINALIZER]) | {"status": {"conditions": [old, other]}}
    expected = {**READY, "lastTransitionTime": "2025-01-01T00:00:00Z"}
    assert plan_cidr(found, [found], [], NOW).conditions == [other, expected]


def test_an_address_that_only_this_range_contains_blocks_its_deletion() -> None:
    going = cidr("a", "10.0.0.0/24", deleted=timedelta(minutes=1), finalizers=[FINALIZER])
    found = plan_cidr(going, [going], [address("10.0.0.9")], NOW)
    assert found == CidrPlan(conditions=[condition("False", "Terminating", BLOCKED)])


@pytest.mark.parametrize(
    ("others", "addresses", "goes"),
    [
        ([], [], True),
        ([], ["10.0.0.9"], False),
        ([], ["10.0.1.9"], True),
        ([], ["10.0.0.0", "10.0.0.255"], True),
        ([("b", "10.0.0.0/16")], ["10.0.0.9"], True),
        ([("b", "10.0.0.0/24")], ["10.0.0.9"], True),
        ([("b", "10.0.0.0/28")], ["10.0.0.9"], True),
        ([("b", "10.0.0.0/28")], ["10.0.0.9", "10.0.0.77"], False),
        ([("b", "fd00::/112")], ["10.0.0.9"], False),
    ],
)
def test_a_range_may_go_when_no_address_is_orphaned(
    others: list[tuple[str, str]], addresses: list[str], *, goes: bool
) -> None:
    going = cidr("a", "10.0.0.0/24")
    everyone = [going, *(cidr(*other) for other in others)]
    assert may_go(going, everyone, map(address, addresses)) is goes


def test_the_second_family_counts_too() -> None:
    going = cidr("a", "10.0.0.0/24", "fd00::/112")
    everyone = [going, cidr("b", "10.0.0.0/16")]
    assert not may_go(going, everyone, [address("fd00::9")])
    assert may_go(going, everyone, [address("10.0.0.9")])
    assert not may_go(going, [going], [address("fd00::ffff")])


def test_addresses_that_others_keep_block_nothing() -> None:
    going = cidr("a", "10.0.0.0/24")
    assert may_go(going, [going], [address("10.0.0.9", "somebody"), {"metadata": {"name": "10.0.0.8"}}])


def test_the_finalizer_goes_ten_seconds_after_the_deletion() -> None:
    going = cidr("a", "10.0.0.0/24", deleted=timedelta(seconds=4), finalizers=["x/y", FINALIZER])
    assert plan_cidr(going, [going], [], NOW) == CidrPlan(again=timedelta(seconds=6))
    going = cidr("a", "10.0.0.0/24", deleted=timedelta(seconds=10), finalizers=["x/y", FINALIZER])
    assert plan_cidr(going, [going], [], NOW) == CidrPlan(finalizers=["x/y"])
    without = cidr("a", "10.0.0.0/24", deleted=timedelta(seconds=10), finalizers=["x/y"])
    assert plan_cidr(without, [without], [], NOW) == CidrPlan()
