"""The patch that ``apply`` sends, judged by what the object is after it."""

from __future__ import annotations

import pytest

from nodeport.api.meta import JsonObject
from nodeport.api.patch import strategic_merge_patch
from nodeport.api.resources import DEPLOYMENTS, SERVICES
from nodeport.cli.threeway import three_way_patch

SERVICE = SERVICES.schema
DEPLOYMENT = DEPLOYMENTS.schema


def applied(schema: str, original: JsonObject, modified: JsonObject, current: JsonObject) -> JsonObject:
    """What ``current`` becomes; a second apply must then have nothing left to do."""
    after = strategic_merge_patch(schema, current, three_way_patch(schema, original, modified, current))
    assert three_way_patch(schema, modified, modified, after) == {}
    return after


def ports(*entries: JsonObject) -> JsonObject:
    return {"spec": {"ports": list(entries)}}


def test_nothing_to_do_is_an_empty_patch() -> None:
    manifest = {"metadata": {"labels": {"a": "1"}}, **ports({"port": 80})}
    current = {"metadata": {"labels": {"a": "1", "other": "x"}, "uid": "u"},
               "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}}  # fmt: skip
    assert three_way_patch(SERVICE, manifest, manifest, current) == {}


def test_what_the_server_added_stays_and_what_the_manifest_changed_changes() -> None:
    after = applied(
        SERVICE,
        {"spec": {"type": "NodePort", "selector": {"app": "a"}}},
        {"spec": {"type": "NodePort", "selector": {"app": "b"}}},
        {"spec": {"type": "NodePort", "selector": {"app": "a"}, "clusterIP": "10.96.0.1"}},
    )
    assert after == {"spec": {"type": "NodePort", "selector": {"app": "b"}, "clusterIP": "10.96.0.1"}}


def test_a_field_that_left_the_manifest_leaves_the_object_and_others_stay() -> None:
    after = applied(
        SERVICE,
        {"metadata": {"labels": {"mine": "1", "gone": "1"}}, "spec": {"sessionAffinity": "ClientIP"}},
        {"metadata": {"labels": {"mine": "1"}}, "spec": {}},
        {
            "metadata": {"labels": {"mine": "1", "gone": "1", "theirs": "1"}},
            "spec": {"sessionAffinity": "ClientIP"},
        },
    )
    assert after == {"metadata": {"labels": {"mine": "1", "theirs": "1"}}, "spec": {}}


def test_list_elements_merge_by_their_key_and_keep_what_the_server_gave_them() -> None:
    after = applied(
        SERVICE,
        ports({"port": 80, "targetPort": 8080}, {"port": 81, "name": "gone"}),
        ports({"port": 80, "targetPort": 9090}, {"port": 82, "name": "new"}),
        ports({"port": 80, "targetPort": 8080, "nodePort": 30007}, {"port": 81, "name": "gone"}),
    )
    assert after == ports({"port": 80, "targetPort": 9090, "nodePort": 30007}, {"port": 82, "name": "new"})


def test_elements_of_others_stay() -> None:
    pod = {"containers": [{"name": "app", "image": "a"}]}
    theirs = {"containers": [{"name": "app", "image": "a"}, {"name": "sidecar", "image": "s"}]}
    newer = {"containers": [{"name": "app", "image": "b"}]}
    after = applied(
        DEPLOYMENT, {"spec": {"template": {"spec": pod}}}, {"spec": {"template": {"spec": newer}}},
        {"spec": {"template": {"spec": theirs}}},
    )  # fmt: skip
    images = {
        container["name"]: container["image"] for container in after["spec"]["template"]["spec"]["containers"]
    }
    assert images == {"app": "b", "sidecar": "s"}


@pytest.mark.parametrize("node_port", [0, 30053])
def test_one_port_number_over_two_protocols_survives(node_port: int) -> None:
    """The merge key of a Service's ports is the number alone: merging by it would lose one of the two."""
    both = [{"name": "tcp", "port": 53, "protocol": "TCP"}, {"name": "udp", "port": 53, "protocol": "UDP"}]
    current = ports(*({**port, "targetPort": 53} for port in both))
    if node_port:
        both[0] = {**both[0], "nodePort": node_port}
    after = applied(SERVICE, ports(), ports(*both), current)
    assert [(port["name"], port.get("nodePort", 0)) for port in after["spec"]["ports"]] == [
        ("tcp", node_port), ("udp", 0),
    ]  # fmt: skip


def test_lists_without_a_merge_key_are_replaced_as_a_whole() -> None:
    after = applied(
        SERVICE, {"spec": {"externalIPs": ["1.2.3.4"]}}, {"spec": {"externalIPs": ["5.6.7.8"]}},
        {"spec": {"externalIPs": ["1.2.3.4", "9.9.9.9"]}},
    )  # fmt: skip
    assert after["spec"]["externalIPs"] == ["5.6.7.8"]


def test_merged_lists_of_words_lose_only_what_the_manifest_dropped() -> None:
    after = applied(
        SERVICE, {"metadata": {"finalizers": ["a/1", "a/2"]}}, {"metadata": {"finalizers": ["a/2", "a/3"]}},
        {"metadata": {"finalizers": ["a/1", "a/2", "b/theirs"]}},
    )  # fmt: skip
    assert sorted(after["metadata"]["finalizers"]) == ["a/2", "a/3", "b/theirs"]


def test_a_strategy_of_another_type_drops_the_old_type_s_settings() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}
    after = applied(
        DEPLOYMENT,
        {"spec": {}},
        {"spec": {"strategy": {"type": "Recreate"}}},
        {"spec": {"strategy": rolling}},
    )
    assert after["spec"]["strategy"] == {"type": "Recreate"}


def test_one_volume_source_replaces_another() -> None:
    def volumes(**source: object) -> JsonObject:
        return {"spec": {"template": {"spec": {"volumes": [{"name": "data", **source}]}}}}

    after = applied(
        DEPLOYMENT,
        volumes(emptyDir={}),
        volumes(hostPath={"path": "/x"}),
        volumes(emptyDir={}, hostPath=None),
    )
    assert after["spec"]["template"]["spec"]["volumes"] == [{"name": "data", "hostPath": {"path": "/x"}}]


def test_a_null_removes_and_stays_quiet_where_there_is_nothing() -> None:
    assert three_way_patch(SERVICE, {}, {"spec": {"clusterIP": None}}, {"spec": {}}) == {}
    assert three_way_patch(
        SERVICE, {}, {"spec": {"externalName": None}}, {"spec": {"externalName": "a"}}
    ) == {"spec": {"externalName": None}}
