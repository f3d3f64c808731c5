"""Deployments and their kin."""

from __future__ import annotations

from clients.kit import ECHO, Kit, row, wait_for


def template(name: str) -> dict[str, object]:
    spec = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": ECHO}]}
    return {"metadata": {"labels": {"app": name}}, "spec": spec}


@row("create", "deployment, job")
def create_workloads(k: Kit) -> None:
    k.deployment("web", 2)
    assert k.path("deployment", "web", ".status.readyReplicas") == "2"
    k("create", "job", "once", f"--image={ECHO}", "--", "true")
    k("wait", "--for=condition=Complete", "job/once", "--timeout=60s")


@row("rollout", "status, history, undo, restart, pause, resume")
def rollout_everything(k: Kit) -> None:
    k.deployment("web")
    k("set", "env", "deployment/web", "A=1")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    assert k("rollout", "history", "deployment/web").count("<none>") == 2
    k("rollout", "undo", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=60s")
    assert "env" not in k.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"][0]
    k("rollout", "restart", "deployment/web")
    k("rollout", "pause", "deployment/web")
    assert k.path("deployment", "web", ".spec.paused") == "true"
    k("rollout", "resume", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=60s")


@row("scale", "deployment, replicaset, statefulset, replicationcontroller; --current-replicas")
def scale_everything(k: Kit) -> None:
    k.deployment("web")
    k("scale", "deployment", "web", "--replicas=2", "--current-replicas=1")
    k("scale", "deployment", "web", "--replicas=3", "--current-replicas=1", code=1)
    wait_for(lambda: k.path("deployment", "web", ".status.readyReplicas") == "2", "two pods")
    body = {"replicas": 0, "selector": {"matchLabels": {"app": "s"}}, "template": template("s")}
    k.apply(
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"},
         "spec": {**body, "serviceName": "s"}},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r"},
         "spec": {**body, "selector": {"matchLabels": {"app": "r"}}, "template": template("r")}},
        {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "c"},
         "spec": {"replicas": 0, "selector": {"app": "c"}, "template": template("c")}},
    )  # fmt: skip
    for name in ("sts/s", "rs/r", "rc/c"):
        k("scale", name, "--replicas=1")
        kind, _, each = name.partition("/")
        wait_for(lambda k=k, kind=kind, each=each: k.path(kind, each, ".status.readyReplicas") == "1", name)


@row("rollout", "status of a StatefulSet and a DaemonSet")
def rollout_sets(k: Kit) -> None:
    body = {"selector": {"matchLabels": {"app": "s"}}, "template": template("s")}
    daemons = {"selector": {"matchLabels": {"app": "d"}}, "template": template("d")}
    k.apply(
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s"},
         "spec": {**body, "serviceName": "s", "replicas": 2}},
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d"}, "spec": daemons},
    )  # fmt: skip
    k("rollout", "status", "statefulset/s", "--timeout=60s")
    k("rollout", "status", "daemonset/d", "--timeout=60s")
    assert k("get", "pods", "-l", "app=s", "-o", "name").split() == ["pod/s-0", "pod/s-1"]


@row("describe", "deployment, replicaset, job")
def describe_workloads(k: Kit) -> None:
    k.deployment("web")
    assert "ScalingReplicaSet" in k("describe", "deployment", "web")
    assert "SuccessfulCreate" in k("describe", "rs")


@row("autoscale", "is refused: there are no metrics to scale by")
def autoscale_refused(k: Kit) -> None:
    k("create", "deployment", "web", f"--image={ECHO}")
    k("autoscale", "deployment", "web", "--min=1", "--max=3", code=1)
