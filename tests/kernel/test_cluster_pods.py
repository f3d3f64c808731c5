"""The life of pods on a real node: what the API shows when programs end, fail, are probed, and are told to go."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from kernel.clusters import LocalCluster, call, is_running, local_cluster, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import CONFIG_MAPS, EVENTS, NODES, PODS
from nodeport.api.status import NotFound

SLEEP = ["sleep", "1000"]
GRACE = 20.0
"""Seconds: what goes at once or soon is gone well before the 30 that a pod is given unless it says otherwise."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One cluster of one node for all tests here; each test has pods of its own."""
    with local_cluster(tmp_path_factory.mktemp("pods")) as made:
        made.up("--nodes", "1")
        yield made


def status_of(pod: JsonObject) -> JsonObject:
    found: JsonObject = (pod["status"].get("containerStatuses") or [{}])[0]
    return found


def waiting_reason(pod: JsonObject) -> str:
    return str((status_of(pod).get("state", {}).get("waiting") or {}).get("reason", ""))


def is_ready(pod: JsonObject) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def events_of(cluster: LocalCluster, pod: str) -> set[str]:
    return {event["reason"] for event in cluster.items(EVENTS) if event["involvedObject"]["name"] == pod}


def test_a_running_pod_says_all_that_kubectl_shows(cluster: LocalCluster) -> None:
    cluster.pod("plain", command=SLEEP)
    pod = cluster.wait_for_pod("plain", is_ready, "ready")
    status, node = pod["status"], cluster.get(NODES, "node-1")
    assert status["hostIP"] == node["status"]["addresses"][0]["address"]
    assert status["podIPs"][0] == {"ip": status["podIP"]}
    for each, cidr in zip(status["podIPs"], node["spec"]["podCIDRs"], strict=True):
        assert ip_address(each["ip"]) in ip_network(cidr)
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "PodScheduled": "True", "PodReadyToStartContainers": "True", "Initialized": "True",
        "ContainersReady": "True", "Ready": "True",
    }  # fmt: skip
    container = status_of(pod)
    assert (container["ready"], container["started"], container["restartCount"]) == (True, True, 0)
    assert container["image"] == "docker.io/nodeport/echo:latest"
    assert container["imageID"].startswith("docker.io/nodeport/echo@sha256:")
    assert "startedAt" in container["state"]["running"]
    wait_for(lambda: events_of(cluster, "plain") >= {"Scheduled", "Pulled", "Created", "Started"}, "events")


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "Completed"), (3, "Failed", "Error")])
def test_a_pod_that_runs_once_ends_with_its_programs_code(
    cluster: LocalCluster, code: int, phase: str, reason: str
) -> None:
    name = f"once-{code}"
    cluster.pod(name, command=["sh", "-c", f"echo done; exit {code}"], spec_restartPolicy="Never")
    pod = cluster.wait_for_pod(name, lambda pod: pod["status"].get("phase") == phase, phase)
    ended = status_of(pod)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (code, reason)
    assert cluster.log_of(name) == "done\n"
    cluster.delete(PODS, name)
    wait_until_gone(cluster, name)


def wait_until_gone(cluster: LocalCluster, name: str, patience: float = GRACE) -> None:
    def gone() -> bool:
        try:
            cluster.get(PODS, name)
        except NotFound:
            return True
        return False

    wait_for(gone, f"pod {name} to be gone", patience=patience)


def test_a_program_that_keeps_failing_is_restarted_with_back_off(cluster: LocalCluster) -> None:
    cluster.pod("crash", command=["false"])
    pod = cluster.wait_for_pod(
        "crash", lambda pod: waiting_reason(pod) == "CrashLoopBackOff", "CrashLoopBackOff"
    )
    container = status_of(pod)
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 1
    assert "back-off 10s restarting failed container=main" in container["state"]["waiting"]["message"]
    assert pod["status"]["phase"] == "Running"
    wait_for(lambda: "BackOff" in events_of(cluster, "crash"), "a BackOff event")


def test_a_missing_program_is_a_start_error(cluster: LocalCluster) -> None:
    cluster.pod("missing", command=["no-such-program"], spec_restartPolicy="Never")
    pod = cluster.wait_for_pod("missing", lambda pod: pod["status"].get("phase") == "Failed", "Failed")
    ended = status_of(pod)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "no-such-program" in ended["message"]


def test_an_unknown_image_waits_with_err_image_pull(cluster: LocalCluster) -> None:
    cluster.pod("image", image="registry.example/none:1")
    pod = cluster.wait_for_pod("image", lambda pod: waiting_reason(pod) == "ErrImagePull", "ErrImagePull")
    assert pod["status"]["phase"] == "Pending"
    assert "registry.example/none:1" in status_of(pod)["state"]["waiting"]["message"]
    cluster.delete(PODS, "image")
    wait_until_gone(cluster, "image")


def test_the_environment_says_who_and_where_the_pod_is(cluster: LocalCluster) -> None:
    cluster.create(CONFIG_MAPS, {"metadata": {"name": "settings"}, "data": {"colour": "blue"}})
    field = {"NAME": "metadata.name", "IP": "status.podIP", "NODE": "spec.nodeName", "HOST": "status.hostIP"}
    env: list[JsonObject] = [
        {"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}} for key, path in field.items()
    ]
    env += [
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "GREETING", "value": "hello $(NAME) $$(NAME)"},
    ]
    script = 'echo "$NAME $IP $NODE $HOST $COLOUR"; echo "$GREETING"; hostname; cat /etc/hostname; cat /config/colour'
    cluster.pod(
        "env", command=["sh", "-c", script], env=env, spec_restartPolicy="Never",
        volumeMounts=[{"name": "config", "mountPath": "/config"}],
        spec_volumes=[{"name": "config", "configMap": {"name": "settings"}}],
    )  # fmt: skip
    pod = cluster.wait_for_pod("env", lambda pod: pod["status"].get("phase") == "Succeeded", "success")
    status = pod["status"]
    assert cluster.log_of("env").splitlines() == [
        f"env {status['podIP']} node-1 {status['hostIP']} blue", "hello env $(NAME)", "env", "env", "blue",
    ]  # fmt: skip


def test_a_missing_setting_is_named(cluster: LocalCluster) -> None:
    wanted = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "nowhere", "key": "x"}}}
    cluster.pod("config", command=SLEEP, env=[wanted])
    pod = cluster.wait_for_pod(
        "config", lambda pod: waiting_reason(pod) == "CreateContainerConfigError", "the error"
    )
    assert status_of(pod)["state"]["waiting"]["message"] == 'configmap "nowhere" not found'


def test_init_containers_run_one_after_another_before_the_others(cluster: LocalCluster) -> None:
    share = [{"name": "share", "mountPath": "/share"}]
    initial = [
        {"name": name, "image": "nodeport/echo", "command": ["sh", "-c", script], "volumeMounts": share}
        for name, script in (
            ("one", "sleep 0.2; echo one > /share/x"),
            ("two", "cat /share/x && echo two >> /share/x"),
        )
    ]
    cluster.pod(
        "init", command=["cat", "/share/x"], volumeMounts=share, spec_initContainers=initial,
        spec_restartPolicy="Never", spec_volumes=[{"name": "share", "emptyDir": {}}],
    )  # fmt: skip
    cluster.wait_for_pod("init", lambda pod: pod["status"].get("phase") == "Succeeded", "success")
    assert cluster.log_of("init") == "one\ntwo\n"


def test_readiness_follows_the_probe(cluster: LocalCluster) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    script = "sleep 1.5; touch /tmp/ready; sleep 2; rm /tmp/ready; sleep 1000"
    cluster.pod("readiness", command=["sh", "-c", script], readinessProbe=probe)
    pod = cluster.wait_for_pod("readiness", is_running, "running")
    assert not is_ready(pod)
    cluster.wait_for_pod("readiness", is_ready, "ready")
    pod = cluster.wait_for_pod("readiness", lambda pod: not is_ready(pod), "unready again")
    assert status_of(pod)["restartCount"] == 0
    wait_for(lambda: "Unhealthy" in events_of(cluster, "readiness"), "an Unhealthy event")


def test_a_failed_liveness_probe_restarts_the_container(cluster: LocalCluster) -> None:
    probe = {
        "tcpSocket": {"port": 9},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "terminationGracePeriodSeconds": 1,
    }
    cluster.pod("liveness", command=SLEEP, livenessProbe=probe)
    pod = cluster.wait_for_pod(
        "liveness", lambda pod: status_of(pod).get("restartCount", 0) >= 1, "a restart"
    )
    last = status_of(pod).get("lastState", {}).get("terminated") or status_of(pod)["state"]["terminated"]
    assert last["exitCode"] == 137
    wait_for(lambda: events_of(cluster, "liveness") >= {"Unhealthy", "Killing"}, "events")


def test_a_startup_probe_holds_the_others_back(cluster: LocalCluster, tmp_path: Path) -> None:
    startup = {"exec": {"command": ["test", "-e", "/shared/up"]}, "periodSeconds": 1, "failureThreshold": 100}
    liveness = {"exec": {"command": ["test", "-e", "/shared/up"]}, "periodSeconds": 1, "failureThreshold": 1}
    cluster.pod(
        "startup", command=SLEEP, startupProbe=startup, livenessProbe=liveness,
        volumeMounts=[{"name": "shared", "mountPath": "/shared"}],
        spec_volumes=[{"name": "shared", "hostPath": {"path": str(tmp_path)}}],
    )  # fmt: skip
    pod = cluster.wait_for_pod("startup", is_running, "running")
    assert status_of(pod)["started"] is False
    wait_for(lambda: "Unhealthy" in events_of(cluster, "startup"), "an answer of the startup probe")
    (tmp_path / "up").touch()
    pod = cluster.wait_for_pod("startup", is_ready, "ready")
    assert (status_of(pod)["started"], status_of(pod)["restartCount"]) == (True, 0)


def test_a_deleted_pod_gets_sigterm_and_then_its_grace_period(cluster: LocalCluster) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    cluster.pod("stubborn", command=["sh", "-c", script], spec_terminationGracePeriodSeconds=2)
    cluster.wait_for_pod("stubborn", is_ready, "ready")
    wait_for(lambda: "ready" in cluster.log_of("stubborn"), "the trap to be set")
    began = time.monotonic()
    assert cluster.delete(PODS, "stubborn")["metadata"]["deletionGracePeriodSeconds"] == 2
    wait_until_gone(cluster, "stubborn")
    assert time.monotonic() - began > 1.5


def test_the_built_in_program_goes_at_once(cluster: LocalCluster) -> None:
    cluster.pod("quick")
    cluster.wait_for_pod("quick", is_ready, "ready")
    cluster.delete(PODS, "quick")
    wait_until_gone(cluster, "quick")


def test_a_forced_deletion_kills_at_once(cluster: LocalCluster) -> None:
    cluster.pod("forced", command=["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
    cluster.wait_for_pod("forced", is_ready, "ready")
    uid = cluster.get(PODS, "forced")["metadata"]["uid"]
    cluster.delete(PODS, "forced", gracePeriodSeconds=0)
    directory = cluster.paths.run / "nodes" / "node-1" / "pods" / uid
    wait_for(lambda: not directory.exists(), "the sandbox to be gone", patience=GRACE)


def test_a_pre_stop_hook_runs_before_sigterm(cluster: LocalCluster) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}
    cluster.pod("hook", command=["sh", "-c", "trap 'echo term; sleep 20; exit 0' TERM; while :; do sleep 0.1; done"],
                lifecycle=hook)  # fmt: skip
    cluster.wait_for_pod("hook", is_ready, "ready")
    cluster.delete(PODS, "hook")
    wait_for(lambda: cluster.log_of("hook").split()[:2] == ["hook", "term"], "hook, then SIGTERM")
    cluster.delete(PODS, "hook", gracePeriodSeconds=0)


def test_logs_are_cut_as_asked(cluster: LocalCluster) -> None:
    cluster.pod(
        "logs", command=["sh", "-c", "for i in 1 2 3; do echo line $i; done; echo oops >&2; sleep 1000"]
    )
    wait_for(lambda: "oops" in cluster.log_of("logs"), "the log")
    assert sorted(cluster.log_of("logs").splitlines()) == ["line 1", "line 2", "line 3", "oops"]
    assert len(cluster.log_of("logs", tailLines=2).splitlines()) == 2
    assert len(cluster.log_of("logs", limitBytes=1)) == 1
    assert cluster.log_of("logs", timestamps="true").splitlines()[0].split()[0].endswith("Z")
    assert cluster.log_of("logs", sinceSeconds=3600).count("\n") == 4
    cluster.delete(PODS, "logs", gracePeriodSeconds=0)


def test_the_built_in_program_tells_whom_it_serves(cluster: LocalCluster) -> None:
    cluster.pod("echo", ports=[{"containerPort": 8080}, {"containerPort": 9090}])
    address = cluster.wait_for_pod("echo", is_ready, "ready")["status"]["podIP"]
    for port in (8080, 9090):
        said = call(address, port, "/some/path?format=json")
        assert (said["pod"], said["node"], said["path"]) == ("echo", "node-1", "/some/path?format=json")
        with socket.create_connection((address, port), timeout=20) as tcp:
            tcp.sendall(b"ping\n")
            mine = ":".join(map(str, tcp.getsockname()))
            assert tcp.makefile().readline() == f"echo node-1 {mine} ping\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(20)
        udp.connect((address, 8080))
        udp.send(b"ping")
        mine = ":".join(map(str, udp.getsockname()))
        assert udp.recv(1000).decode() == f"echo node-1 {mine} ping\n"


def test_containers_see_neither_secrets_of_the_host_nor_other_pods(cluster: LocalCluster) -> None:
    script = (
        "ls /var/lib/nodeport /root/.ssh /etc/shadow /run/nodeport/*/ /work 2>/dev/null; id -u; ls /proc | grep -c '^[0-9]';"
        "touch /usr/x 2>/dev/null || echo read-only; touch /tmp/x && echo writable;"
        "echo 1 2>/dev/null > /proc/sys/kernel/panic || echo protected; mount -t tmpfs x /mnt 2>/dev/null || echo unprivileged;"
        "mkdir $(ls -d /sys/fs/cgroup/pids /sys/fs/cgroup 2>/dev/null | tail -1)/x 2>/dev/null || echo protected; ls /sys/firmware | wc -l"
    )
    cluster.pod("jail", command=["sh", "-c", script], spec_restartPolicy="Never")
    cluster.wait_for_pod("jail", lambda pod: pod["status"].get("phase") == "Succeeded", "success")
    lines = cluster.log_of("jail").splitlines()
    assert lines[0] == "0"
    assert int(lines[1]) <= 5
    assert lines[2:] == ["read-only", "writable", "protected", "unprivileged", "protected", "0"]


def test_logs_go_with_their_pod(cluster: LocalCluster) -> None:
    cluster.pod("brief", command=["sh", "-c", "echo x"], spec_restartPolicy="Never")
    cluster.wait_for_pod("brief", lambda pod: pod["status"].get("phase") == "Succeeded", "success")
    logs = cluster.paths.data / "nodes" / "node-1" / "logs"
    assert list(logs.glob("default_brief_*"))
    cluster.delete(PODS, "brief")
    wait_until_gone(cluster, "brief")
    wait_for(lambda: not list(logs.glob("default_brief_*")), "the logs to go")
