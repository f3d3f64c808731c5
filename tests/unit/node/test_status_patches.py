"""The patch by which a node reports a pod's status, applied by the API's own rules."""

from __future__ import annotations

from nodeport.api.patch import strategic_merge_patch
from nodeport.api.resources import PODS
from nodeport.node.reporter import overwritten, patch_from


def test_a_new_address_takes_the_place_of_the_old_one() -> None:
    stored = {
        "podIP": "10.244.1.2",
        "podIPs": [{"ip": "10.244.1.2"}],
        "hostIPs": [{"ip": "172.30.0.11"}],
        "reason": "NodeLost",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "example.com/gate", "status": "True"}],
    }
    wanted = {
        "podIP": "10.244.1.9",
        "podIPs": [{"ip": "10.244.1.9"}],
        "hostIPs": [{"ip": "172.30.0.12"}],
        "conditions": [{"type": "Ready", "status": "False"}],
    }
    patched = strategic_merge_patch(PODS.schema, {"status": stored}, {"status": patch_from(stored, wanted)})
    status = patched["status"]
    assert (status["podIP"], status["podIPs"]) == ("10.244.1.9", [{"ip": "10.244.1.9"}])
    assert status["hostIPs"] == [{"ip": "172.30.0.12"}]
    assert "reason" not in status
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "Ready": "False",
        "example.com/gate": "True",
    }


def test_an_address_that_is_not_known_any_more_is_taken_away() -> None:
    stored = {"podIP": "10.244.1.2", "podIPs": [{"ip": "10.244.1.2"}], "phase": "Running"}
    patched = strategic_merge_patch(
        PODS.schema, {"status": stored}, {"status": patch_from(stored, {"phase": "Pending"})}
    )
    assert patched["status"] == {"phase": "Pending"}


def test_a_condition_that_somebody_else_changed_is_noticed() -> None:
    sent = {"conditions": [{"type": "Ready", "status": "True", "reason": None}]}
    gate = {"type": "example.com/gate", "status": "False"}
    assert not overwritten({"conditions": [gate, {"type": "Ready", "status": "True"}]}, sent)
    assert overwritten({"conditions": [gate, {"type": "Ready", "status": "False"}]}, sent)
    assert overwritten({"conditions": [gate]}, sent)
    assert not overwritten({}, {})
