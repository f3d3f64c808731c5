"""StatefulSets, DaemonSets, ReplicationControllers and Jobs on real nodes: their pods run, end and go."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.clusters import LocalCluster, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import (
    DAEMON_SETS,
    EVENTS,
    JOBS,
    PODS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Resource,
)


@pytest.fixture(scope="module")
def cluster(module_cluster: LocalCluster) -> LocalCluster:
    module_cluster.up("--nodes", "2")
    return module_cluster


def template(app: str, *command: str, **spec: Any) -> JsonObject:
    container: JsonObject = {"name": "main", "image": "nodeport/echo"}
    if command:
        container["command"] = list(command)
    return {
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


def pods_of(cluster: LocalCluster, app: str) -> list[JsonObject]:
    pods = [pod for pod in cluster.items(PODS) if (pod["metadata"].get("labels") or {}).get("app") == app]
    return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))


def wait_for_status(cluster: LocalCluster, resource: Resource, name: str, **wanted: int) -> None:
    def is_so() -> bool:
        status = cluster.get(resource, name)["status"]
        return all(status.get(field, 0) == value for field, value in wanted.items())

    wait_for(is_so, f"{resource.singular} {name} to have {wanted}")


def wait_until_empty(cluster: LocalCluster, app: str) -> None:
    wait_for(lambda: not pods_of(cluster, app), f"the pods of {app} to be gone")


def test_a_stateful_sets_pods_know_their_names(cluster: LocalCluster) -> None:
    spec = {
        "replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": template("db", "sh", "-c", "hostname; sleep 1000"),
    }  # fmt: skip
    cluster.create(STATEFUL_SETS, {"metadata": {"name": "db"}, "spec": spec})
    wait_for_status(cluster, STATEFUL_SETS, "db", readyReplicas=2, updatedReplicas=2)
    for pod in pods_of(cluster, "db"):
        name = pod["metadata"]["name"]
        wait_for(lambda name=name: cluster.log_of(name) == f"{name}\n", f"{name} to say its name")
    cluster.delete(STATEFUL_SETS, "db", propagationPolicy="Foreground")
    wait_until_empty(cluster, "db")


def test_a_stateful_sets_pod_that_its_node_rejects_is_made_anew_until_there_is_room(
    cluster: LocalCluster,
) -> None:
    on_port = template("fixed", nodeName="node-1")
    on_port["spec"]["containers"][0]["ports"] = [{"containerPort": 8080, "hostPort": 21017}]
    cluster.create(PODS, {"metadata": {"name": "holder"}, "spec": on_port["spec"]})
    cluster.wait_for_pod("holder", lambda pod: pod["status"].get("phase") == "Running", "to run")
    spec = {
        "replicas": 1, "serviceName": "fixed", "selector": {"matchLabels": {"app": "fixed"}}, "template": on_port,
    }  # fmt: skip
    cluster.create(STATEFUL_SETS, {"metadata": {"name": "fixed"}, "spec": spec})
    rejections = wait_for(lambda: rejections_of(cluster, "fixed-0"), "fixed-0 to be rejected")
    assert rejections == {
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    }
    cluster.delete(PODS, "holder")
    wait_for_status(cluster, STATEFUL_SETS, "fixed", readyReplicas=1)
    cluster.delete(STATEFUL_SETS, "fixed", propagationPolicy="Foreground")
    wait_until_empty(cluster, "fixed")


def rejections_of(cluster: LocalCluster, pod: str) -> set[str]:
    """What the node said of the ``NodePorts`` of pods of this name."""
    return {
        event["message"]
        for event in cluster.items(EVENTS)
        if event["involvedObject"]["name"] == pod and event["reason"] == "NodePorts"
    }


def test_a_daemon_runs_on_each_node(cluster: LocalCluster) -> None:
    spec = {"selector": {"matchLabels": {"app": "agent"}}, "template": template("agent")}
    cluster.create(DAEMON_SETS, {"metadata": {"name": "agent"}, "spec": spec})
    wait_for_status(cluster, DAEMON_SETS, "agent", numberReady=2, desiredNumberScheduled=2)
    assert {pod["spec"]["nodeName"] for pod in pods_of(cluster, "agent")} == {"node-1", "node-2"}
    cluster.delete(DAEMON_SETS, "agent")
    wait_until_empty(cluster, "agent")


def test_a_job_counts_real_programs_that_end(cluster: LocalCluster) -> None:
    once = template("once", "sh", "-c", "echo $JOB_COMPLETION_INDEX", restartPolicy="Never")
    spec = {"completions": 3, "parallelism": 2, "completionMode": "Indexed", "template": once}
    cluster.create(JOBS, {"metadata": {"name": "once"}, "spec": spec})
    wait_for_status(cluster, JOBS, "once", succeeded=3, active=0)
    assert sorted(cluster.log_of(pod["metadata"]["name"]) for pod in pods_of(cluster, "once")) == [
        "0\n",
        "1\n",
        "2\n",
    ]
    cluster.delete(JOBS, "once", propagationPolicy="Background")
    wait_until_empty(cluster, "once")


def test_a_job_that_is_ended_early_leaves_no_pod_held(cluster: LocalCluster) -> None:
    long = template("long", "sleep", "1000", restartPolicy="Never")
    spec = {"template": long, "parallelism": 2, "completions": 2}
    cluster.create(JOBS, {"metadata": {"name": "long"}, "spec": spec})
    wait_for_status(cluster, JOBS, "long", ready=2)
    cluster.delete(JOBS, "long", propagationPolicy="Foreground")
    wait_until_empty(cluster, "long")


def test_a_replication_controllers_pods_outlive_it_unless_asked_otherwise(cluster: LocalCluster) -> None:
    spec = {"replicas": 2, "template": template("rc")}
    cluster.create(REPLICATION_CONTROLLERS, {"metadata": {"name": "rc"}, "spec": spec})
    wait_for_status(cluster, REPLICATION_CONTROLLERS, "rc", readyReplicas=2)
    before = [pod["metadata"]["uid"] for pod in pods_of(cluster, "rc")]
    cluster.delete(REPLICATION_CONTROLLERS, "rc")
    wait_for(lambda: not cluster.items(REPLICATION_CONTROLLERS), "the controller to be gone")
    cluster.create(REPLICATION_CONTROLLERS, {"metadata": {"name": "rc"}, "spec": spec})
    wait_for_status(cluster, REPLICATION_CONTROLLERS, "rc", readyReplicas=2)
    assert [pod["metadata"]["uid"] for pod in pods_of(cluster, "rc")] == before
    cluster.delete(REPLICATION_CONTROLLERS, "rc", propagationPolicy="Foreground")
    wait_until_empty(cluster, "rc")
