"""Probes, hooks, deadlines and restarts of real pods, with the words that a kubelet has for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.clusters import POLL, LocalCluster, local_cluster, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import EVENTS, PODS, SECRETS

SLEEP = ["sleep", "1000"]
STUBBORN = ["sh", "-c", "trap 'echo term' TERM; while :; do sleep 0.1; done"]
TIDY = ["sh", "-c", "trap 'echo term; exit 0' TERM; while :; do sleep 0.05; done"]
WEB = """
import http.server, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("GET", self.path, self.headers.get("Host"), self.headers.get("X-Mark"), flush=True)
        if self.path == "/far":
            self.send_response(302); self.send_header("Location", "http://elsewhere.example/"); self.end_headers()
            self.wfile.write(b"gone far")
        elif self.path == "/near":
            self.send_response(302); self.send_header("Location", "/bad"); self.end_headers()
        else:
            self.send_response(500 if self.path == "/bad" else 200); self.end_headers()
    def log_message(self, *words): pass
socketserver.TCPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
GRPC = """
import socket
answer = bytes((0x08, 1))
frame = lambda kind, flags, stream, data: len(data).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + data
name, value = b"grpc-status", b"0"
trailers = bytes((0, len(name))) + name + bytes((len(value),)) + value
listener = socket.create_server(("", 5000))
while True:
    peer, _ = listener.accept()
    asked = b""
    while b"Health" not in asked and (data := peer.recv(4096)):
        asked += data
    peer.sendall(frame(4, 0, 0, b"") + frame(4, 1, 0, b"") + frame(1, 4, 1, bytes((0x88,)))
                 + frame(0, 0, 1, bytes((0, 0, 0, 0, 2)) + answer) + frame(1, 5, 1, trailers))
    while peer.recv(4096): pass
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One cluster of one node for all tests here; each test has pods of its own."""
    with local_cluster(tmp_path_factory.mktemp("life")) as made:
        made.up("--nodes", "1", "--container-log-max-size", "64Ki", "--container-log-max-files", "3")
        yield made


def container_of(pod: JsonObject) -> JsonObject:
    found: JsonObject = (pod["status"].get("containerStatuses") or [{}])[0]
    return found


def is_ready(pod: JsonObject) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def is_over(pod: JsonObject) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def events_of(cluster: LocalCluster, pod: str, container: str = "") -> list[tuple[str, str]]:
    """(reason, message) of what happened to a pod, or to one of its containers."""
    wanted = f"spec.containers{{{container}}}" if container else ""
    found = [event for event in cluster.items(EVENTS) if event["involvedObject"]["name"] == pod]
    return [
        (event["reason"], event["message"]) for event in found
        if not wanted or event["involvedObject"].get("fieldPath") == wanted
    ]  # fmt: skip


def wait_for_event(cluster: LocalCluster, pod: str, reason: str, message: str, container: str = "") -> None:
    def told() -> bool:
        return any(kind == reason and message in said for kind, said in events_of(cluster, pod, container))

    try:
        wait_for(told, f"event {reason} {message!r}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {events_of(cluster, pod)}") from error


def http_probe(path: str, **fields: object) -> JsonObject:
    return {"httpGet": {"path": path, "port": 8000}, "periodSeconds": 1, **fields}


def shared(path: Path) -> JsonObject:
    """For ``LocalCluster.pod``: a folder of this machine at ``/shared``."""
    return {
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        "spec_volumes": [{"name": "shared", "hostPath": {"path": str(path)}}],
    }


def test_a_post_start_hook_holds_the_container_back_until_it_is_done(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    script = "until [ -e /shared/go ]; do sleep 0.05; done; echo hook > /proc/1/fd/1"
    folder = shared(tmp_path)
    main = {"name": "main", "image": "nodeport/echo", "command": SLEEP, "volumeMounts": folder["volumeMounts"],
            "lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", script]}}}}  # fmt: skip
    second = {"name": "second", "image": "nodeport/echo", "command": SLEEP}
    spec = {"containers": [main, second], "volumes": folder["spec_volumes"]}
    cluster.create(PODS, {"metadata": {"name": "hooked"}, "spec": spec})
    wait_for_event(cluster, "hooked", "Started", "Container started", container="main")
    pod = cluster.get(PODS, "hooked")
    assert not is_ready(pod)
    assert container_of(pod)["state"]["waiting"]["reason"] == "ContainerCreating"
    assert ("Started", "Container started") not in events_of(cluster, "hooked", container="second")
    (tmp_path / "go").touch()
    cluster.wait_for_pod("hooked", is_ready, "ready")
    assert cluster.log_of("hooked", container="main").split() == ["hook"]


def test_a_failed_post_start_hook_ends_the_container_which_is_started_again(cluster: LocalCluster) -> None:
    hook = {"postStart": {"exec": {"command": ["sh", "-c", "echo bad; exit 3"]}}}
    cluster.pod("unhooked", command=TIDY, lifecycle=hook)
    wait_for_event(cluster, "unhooked", "FailedPostStartHook", "PostStartHook failed")
    wait_for_event(cluster, "unhooked", "Killing", "FailedPostStartHook")
    pod = cluster.wait_for_pod(
        "unhooked", lambda pod: container_of(pod).get("restartCount", 0) >= 1, "a restart"
    )
    assert not is_ready(pod)
    cluster.delete(PODS, "unhooked", gracePeriodSeconds=0)


def test_a_post_start_hook_that_never_ends_does_not_outlive_its_pod(cluster: LocalCluster) -> None:
    cluster.pod("endless", command=TIDY, lifecycle={"postStart": {"exec": {"command": SLEEP}}})
    wait_for_event(cluster, "endless", "Started", "Container started")
    cluster.delete(PODS, "endless")
    wait_for(
        lambda: "endless" not in {pod["metadata"]["name"] for pod in cluster.items(PODS)},
        "deletion",
        patience=20,  # before the grace period is over
    )


def test_a_pre_stop_hook_may_ask_over_http(cluster: LocalCluster) -> None:
    hook = {
        "preStop": {
            "httpGet": {"path": "/bye", "port": "web", "httpHeaders": [{"name": "X-Mark", "value": "m"}]}
        }
    }
    cluster.pod("asked", command=["python3", "-c", WEB], lifecycle=hook, readinessProbe=http_probe("/ok"),
                ports=[{"name": "web", "containerPort": 8000}])  # fmt: skip
    pod = cluster.wait_for_pod("asked", is_ready, "ready")
    cluster.delete(PODS, "asked")
    wait_for(
        lambda: f"GET /bye {pod['status']['podIP']}:8000 m" in cluster.log_of("asked"), "the hook's request"
    )
    cluster.delete(PODS, "asked", gracePeriodSeconds=0)


def test_probes_and_hooks_speak_tls_with_whoever_has_a_certificate(cluster: LocalCluster) -> None:
    """Of the cluster's own, here: nobody verifies it. A hook that asks a program without TLS asks again without."""
    files = {"crt": cluster.paths.certificate("server"), "key": cluster.paths.key("server")}
    cluster.create(
        SECRETS,
        {"metadata": {"name": "tls"}, "stringData": {name: path.read_text() for name, path in files.items()}},
    )
    wrapped = WEB.replace(
        'http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()',
        'server = http.server.ThreadingHTTPServer(("", 8000), Handler)\n'
        "import ssl; context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain('/tls/crt', '/tls/key')\n"
        "server.socket = context.wrap_socket(server.socket, server_side=True); server.serve_forever()",
    )
    secure = http_probe("/ok")
    secure["httpGet"]["scheme"] = "HTTPS"
    hook = {"preStop": {"httpGet": {"path": "/bye", "port": 8000, "scheme": "HTTPS"}}}
    cluster.pod("secure", command=["python3", "-c", wrapped], readinessProbe=secure, lifecycle=hook,
                volumeMounts=[{"name": "tls", "mountPath": "/tls"}],
                spec_volumes=[{"name": "tls", "secret": {"secretName": "tls"}}])  # fmt: skip
    cluster.pod("open", command=["python3", "-c", WEB], readinessProbe=secure, lifecycle=hook)
    cluster.wait_for_pod("secure", is_ready, "ready")
    said = "http: server gave HTTP response to HTTPS client"
    wait_for_event(cluster, "open", "Unhealthy", said)
    for pod in ("secure", "open"):
        cluster.delete(PODS, pod)
        wait_for(lambda of=pod: "GET /bye" in cluster.log_of(of), f"the hook's request to {pod}")
        cluster.delete(PODS, pod, gracePeriodSeconds=0)


def test_a_hook_that_cannot_run_is_told_and_holds_nothing_up(cluster: LocalCluster) -> None:
    cluster.pod("nohook", command=TIDY, lifecycle={"preStop": {"tcpSocket": {"port": 1}}})
    cluster.wait_for_pod("nohook", is_ready, "ready")
    cluster.delete(PODS, "nohook")
    wait_for_event(cluster, "nohook", "FailedPreStopHook", "PreStopHook failed")
    wait_for(lambda: "nohook" not in {pod["metadata"]["name"] for pod in cluster.items(PODS)}, "deletion")


def test_a_failed_liveness_probe_has_hook_and_grace_of_its_own(cluster: LocalCluster) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}
    probe = {"exec": {"command": ["sh", "-c", "echo ill; exit 1"]}, "periodSeconds": 1, "failureThreshold": 1,
             "terminationGracePeriodSeconds": 5}  # fmt: skip
    cluster.pod(
        "ill", command=STUBBORN, lifecycle=hook, livenessProbe=probe, spec_terminationGracePeriodSeconds=600
    )
    wait_for_event(cluster, "ill", "Unhealthy", "Liveness probe failed: ill")
    wait_for_event(cluster, "ill", "Killing", "Container main failed liveness probe, will be restarted")
    cluster.wait_for_pod("ill", lambda pod: container_of(pod).get("restartCount", 0) >= 1, "a restart")
    assert cluster.log_of("ill", previous="true").split()[:2] == ["hook", "term"]
    cluster.delete(PODS, "ill", gracePeriodSeconds=0)


def test_what_probes_find_is_told_in_gos_words(cluster: LocalCluster) -> None:
    near = http_probe("/near")
    far = http_probe("/far")
    cluster.pod("red", command=["python3", "-c", WEB], readinessProbe=near, livenessProbe=far)
    wait_for_event(
        cluster, "red", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 500"
    )
    wait_for_event(
        cluster,
        "red",
        "ProbeWarning",
        "Liveness probe warning: Probe terminated redirects, Response body: gone far",
    )
    deaf = {"tcpSocket": {"port": 9}, "periodSeconds": 1}
    slow = {"exec": {"command": ["sleep", "9"]}, "periodSeconds": 1, "failureThreshold": 50}
    cluster.pod("deaf", command=SLEEP, readinessProbe=deaf, livenessProbe=slow)
    address = cluster.wait_for_pod("deaf", lambda pod: pod["status"].get("podIP"), "address")["status"][
        "podIP"
    ]
    wait_for_event(
        cluster,
        "deaf",
        "Unhealthy",
        f"Readiness probe failed: dial tcp {address}:9: connect: connection refused",
    )
    wait_for_event(
        cluster, "deaf", "Unhealthy", 'Liveness probe failed: command timed out: "sleep 9" timed out after 1s'
    )
    mute = {"exec": {"command": ["no-such-program"]}, "periodSeconds": 1, "failureThreshold": 1}
    closed = {"httpGet": {"port": 9, "path": "/x"}, "periodSeconds": 1}
    cluster.pod("mute", command=SLEEP, livenessProbe=mute, readinessProbe=closed)
    address = cluster.wait_for_pod("mute", lambda pod: pod["status"].get("podIP"), "address")["status"][
        "podIP"
    ]
    wait_for_event(cluster, "mute", "Unhealthy", "Liveness probe errored and resulted in unknown state: ")
    said = f'Readiness probe failed: Get "http://{address}:9/x": dial tcp {address}:9: connect: connection refused'
    wait_for_event(cluster, "mute", "Unhealthy", said)
    assert container_of(cluster.get(PODS, "mute"))["restartCount"] == 0, "what cannot be asked is not ill"


def test_a_pod_that_is_going_is_unready_when_its_probe_says_so_and_not_restarted(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    going = "touch /shared/going; until [ -e /shared/gone ]; do sleep 0.05; done; exit 0"
    script = f"trap '{going}' TERM; while :; do sleep 0.05; done"
    probe = {
        "exec": {"command": ["test", "!", "-e", "/shared/going"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    cluster.pod("leaving", command=["sh", "-c", script], readinessProbe=probe, livenessProbe=probe,
                spec_terminationGracePeriodSeconds=600, **shared(tmp_path))  # fmt: skip
    cluster.wait_for_pod("leaving", is_ready, "ready")
    cluster.delete(PODS, "leaving")
    unready = cluster.wait_for_pod("leaving", lambda pod: not is_ready(pod), "unready")
    assert unready["metadata"]["deletionTimestamp"]
    (tmp_path / "gone").touch()
    wait_for(lambda: "leaving" not in {pod["metadata"]["name"] for pod in cluster.items(PODS)}, "deletion")
    assert [said for reason, said in events_of(cluster, "leaving") if reason == "Killing"] == [
        "Stopping container main"
    ]


def test_a_readiness_gate_holds_a_pod_back(cluster: LocalCluster) -> None:
    cluster.pod("gated", command=SLEEP, spec_readinessGates=[{"conditionType": "example.com/ok"}])

    def held(pod: JsonObject) -> bool:
        conditions = {one["type"]: one for one in pod["status"].get("conditions") or ()}
        return bool(conditions.get("ContainersReady", {}).get("status") == "True" and not is_ready(pod))

    pod = cluster.wait_for_pod("gated", held, "its containers to be ready")
    ready = next(one for one in pod["status"]["conditions"] if one["type"] == "Ready")
    assert ready["reason"] == "ReadinessGatesNotReady"
    assert (
        ready["message"] == 'corresponding condition of pod readiness gate "example.com/ok" does not exist.'
    )
    gate = {"type": "example.com/ok", "status": "True"}
    with cluster.session() as session:
        session.request(
            "PATCH", PODS.path("default", "gated", "status"), body={"status": {"conditions": [gate]}},
            content_type="application/strategic-merge-patch+json",
        )  # fmt: skip
    cluster.wait_for_pod("gated", is_ready, "ready")


def test_a_grpc_probe_makes_a_container_ready(cluster: LocalCluster) -> None:
    probe = {"grpc": {"port": 5000, "service": "Health"}, "periodSeconds": 1}
    cluster.pod("grpc", command=["python3", "-c", GRPC], readinessProbe=probe)
    cluster.wait_for_pod("grpc", is_ready, "ready")
    cluster.pod("nogrpc", command=["python3", "-c", WEB], readinessProbe={**probe, "grpc": {"port": 8000}})
    wait_for_event(cluster, "nogrpc", "Unhealthy", "Readiness probe failed: error: health rpc probe failed")


def test_a_pod_that_is_active_for_too_long_fails(cluster: LocalCluster) -> None:
    """One second, of which it is told when it runs: it may have a slow start."""
    cluster.pod(
        "late", command=["sh", "-c", "trap 'echo term; exit 0' TERM; echo set; while :; do sleep 0.05; done"]
    )
    wait_for(lambda: cluster.log_of("late") == "set\n", "the trap to be set")
    with cluster.session() as session:
        session.request(
            "PATCH", PODS.path("default", "late"), body={"spec": {"activeDeadlineSeconds": 1}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
    status = cluster.wait_for_pod("late", is_over, "over")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    wait_for_event(cluster, "late", "DeadlineExceeded", "Pod was active on the node longer than")
    assert cluster.log_of("late").split() == ["set", "term"]


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_a_container_whose_image_changes_is_restarted_whatever_the_restart_policy(
    cluster: LocalCluster, policy: str
) -> None:
    name = f"image-{policy.lower()}"
    cluster.pod(name, command=TIDY, spec_restartPolicy=policy)
    before = container_of(cluster.wait_for_pod(name, is_ready, "ready"))
    assert before["image"].endswith("nodeport/echo:latest")
    change_image(cluster, name, "nodeport/echo:second")
    told = "Container main definition changed, will be restarted"
    wait_for_event(cluster, name, "Killing", told, "main")
    after = container_of(
        cluster.wait_for_pod(name, lambda pod: container_of(pod)["restartCount"] == 1, "restarted")
    )
    assert after["image"].endswith("nodeport/echo:second")
    assert after["lastState"]["terminated"]["exitCode"] == 0


def test_an_image_that_cannot_be_had_is_asked_for_no_longer_once_it_is_changed(cluster: LocalCluster) -> None:
    cluster.pod("mistyped", image="nodeport/ehco", imagePullPolicy="Never")
    cluster.wait_for_pod("mistyped", lambda pod: waits_for(pod) == "ErrImageNeverPull", "refused")
    change_image(cluster, "mistyped", "nodeport/echo")
    status = container_of(cluster.wait_for_pod("mistyped", is_ready, "ready"))
    assert status["restartCount"] == 0


def test_an_image_that_is_changed_while_no_agent_runs_is_taken_by_the_next_one(tmp_path: Path) -> None:
    with local_cluster(tmp_path) as cluster:
        cluster.up("--nodes", "1")
        for name in ("changed", "same"):
            cluster.pod(name, command=TIDY)
            cluster.wait_for_pod(name, is_ready, "ready")
        cluster.kill("nodes")
        change_image(cluster, "changed", "nodeport/echo:second")
        cluster.up("--nodes", "1")
        status = container_of(
            cluster.wait_for_pod("changed", lambda pod: container_of(pod)["restartCount"] == 1, "restarted")
        )
        assert status["image"].endswith("nodeport/echo:second")
        assert container_of(cluster.get(PODS, "same"))["restartCount"] == 0


def change_image(cluster: LocalCluster, pod: str, image: str) -> None:
    with cluster.session() as session:
        path = PODS.path("default", pod)
        found = session.get(path)
        found["spec"]["containers"][0]["image"] = image
        session.request("PUT", path, body={**found, "metadata": {"name": pod}})


def waits_for(pod: JsonObject) -> str:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return str((statuses[0].get("state") or {}).get("waiting", {}).get("reason", ""))


def test_an_init_container_that_fails_for_good_fails_the_pod(cluster: LocalCluster) -> None:
    first = {"name": "first", "image": "nodeport/echo", "command": ["sh", "-c", "exit 3"]}
    cluster.pod("noinit", command=SLEEP, spec_initContainers=[first], spec_restartPolicy="Never")
    status = cluster.wait_for_pod("noinit", is_over, "over")["status"]
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    conditions = {one["type"]: one for one in status["conditions"]}
    assert conditions["Initialized"]["reason"] == "ContainersNotInitialized"
    assert conditions["Initialized"]["message"] == "containers with incomplete status: [first]"


def test_a_containers_own_rules_decide_on_its_restarts(cluster: LocalCluster) -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    script = "n=$(cat /tmp/n 2>/dev/null || echo 0); echo $((n + 1)) > /tmp/n; [ $n = 0 ] && exit 42; exit 43"
    cluster.pod("rules", command=["sh", "-c", script], restartPolicy="Never", restartPolicyRules=[rule],
                volumeMounts=[{"name": "n", "mountPath": "/tmp"}], spec_volumes=[{"name": "n", "emptyDir": {}}])  # fmt: skip
    status = container_of(cluster.wait_for_pod("rules", is_over, "over"))
    assert (status["restartCount"], status["state"]["terminated"]["exitCode"]) == (1, 43)
    assert status["lastState"]["terminated"]["exitCode"] == 42


def test_a_container_may_have_the_whole_pod_begin_anew(cluster: LocalCluster) -> None:
    mounts = [{"name": "n", "mountPath": "/n"}]
    count = "n=$(cat /n/{0} 2>/dev/null || echo 0); echo $((n + 1)) > /n/{0}; "

    def container(name: str, script: str, **fields: object) -> JsonObject:
        command = ["sh", "-c", count.format(name) + script]
        return {"name": name, "image": "nodeport/echo", "command": command, "volumeMounts": mounts, **fields}

    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}
    spec = {
        "restartPolicy": "Never", "volumes": [{"name": "n", "emptyDir": {}}], "terminationGracePeriodSeconds": 600,
        "initContainers": [container("first", "true")],
        "containers": [
            container("done", "true"), container("stubborn", "trap '' TERM; [ $n = 1 ] || exec sleep 1000"),
            container("watch", "sleep 1; [ $n = 1 ] || exit 88", restartPolicy="Never", restartPolicyRules=[rule]),
        ],
    }  # fmt: skip
    made = cluster.create(PODS, {"metadata": {"name": "anew"}, "spec": spec})
    pod = cluster.wait_for_pod("anew", is_over, "over")
    assert (pod["status"]["phase"], pod["metadata"]["uid"]) == ("Succeeded", made["metadata"]["uid"])
    statuses = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
    assert {one["name"]: one["restartCount"] for one in statuses} == dict.fromkeys(
        ("first", "done", "stubborn", "watch"), 1
    )
    assert {one["type"]: one["status"] for one in pod["status"]["conditions"]}[
        "AllContainersRestarting"
    ] == "False"


def test_a_pod_with_a_sidecar_succeeds_when_its_work_is_done(cluster: LocalCluster) -> None:
    sidecar = {"name": "side", "image": "nodeport/echo", "command": TIDY, "restartPolicy": "Always"}
    cluster.pod("helped", command=["true"], spec_initContainers=[sidecar], spec_restartPolicy="Never")
    cluster.wait_for_pod("helped", lambda pod: pod["status"].get("phase") == "Succeeded", "success")
    ended = cluster.wait_for_pod(
        "helped",
        lambda pod: pod["status"]["initContainerStatuses"][0]["state"].get("terminated"),
        "sidecar's end",
    )
    assert ended["status"]["phase"] == "Succeeded"


def test_a_grace_period_can_be_cut_short(cluster: LocalCluster) -> None:
    cluster.pod("slow", command=STUBBORN, spec_terminationGracePeriodSeconds=600)
    cluster.wait_for_pod("slow", is_ready, "ready")
    cluster.delete(PODS, "slow")
    wait_for(lambda: cluster.log_of("slow").split() == ["term"], "SIGTERM")
    cluster.delete(PODS, "slow", gracePeriodSeconds=1)
    wait_for(
        lambda: "slow" not in {pod["metadata"]["name"] for pod in cluster.items(PODS)},
        "deletion",
    )


def test_a_pod_that_ended_unheard_is_not_run_again(tmp_path: Path) -> None:
    """The node learns of the end, can tell nobody, and is killed: the next agent tells what the first one saw."""
    mark = tmp_path / "marks"
    mark.mkdir()
    with local_cluster(tmp_path / "cluster") as cluster:
        cluster.up("--nodes", "1")
        volume = {"name": "marks", "hostPath": {"path": str(mark)}}
        cluster.pod("once", command=["sh", "-c", "until [ -e /marks/go ]; do sleep 0.05; done; echo ran >> /marks/ran"],
                    volumeMounts=[{"name": "marks", "mountPath": "/marks"}], spec_volumes=[volume],
                    spec_restartPolicy="Never")  # fmt: skip
        cluster.wait_for_pod("once", is_ready, "ready")
        cluster.kill("server")
        (mark / "go").touch()
        box = cluster.paths.run / "nodes" / "node-1" / "pods"
        wait_for(lambda: list(box.glob("*/containers/main/0/exit")), "the end of the program")
        for _ in range(25):  # what the pod ran in is the only witness left
            assert list(box.glob("*/containers/main/0/exit"))
            time.sleep(POLL)
        cluster.kill("nodes")
        cluster.up()
        cluster.wait_for_pod("once", lambda pod: pod["status"].get("phase") == "Succeeded", "success")
        assert (mark / "ran").read_text() == "ran\n"


def test_a_log_that_is_followed_loses_nothing_while_it_is_rotated(cluster: LocalCluster) -> None:
    script = (
        "n=0; while [ $n -lt 12000 ]; do echo line $n; n=$((n+1)); [ $((n % 100)) = 0 ] && sleep 0.02; done"
    )
    cluster.pod("chatty", command=["sh", "-c", script], spec_restartPolicy="Never")
    wait_for(lambda: cluster.log_of("chatty", tailLines=1), "the first lines")
    followed = cluster.log_of("chatty", follow="true").splitlines()
    assert followed == [f"line {number}" for number in range(int(followed[0].split()[1]), 12000)]
    assert int(followed[0].split()[1]) < 5000, "it was read from the beginning"
    uid = cluster.wait_for_pod("chatty", is_over, "over")["metadata"]["uid"]
    files = list((cluster.paths.data / "nodes" / "node-1" / "logs").glob(f"*_{uid}/main/*"))
    assert len(files) == 3
    assert all(file.stat().st_size <= 64 * 1024 for file in files)
    assert cluster.log_of("chatty", tailLines=2000).splitlines() == followed[-2000:]
    assert cluster.log_of("chatty", tailLines=1, timestamps="true").split()[1:] == [
        "line",
        "11999",
    ]
