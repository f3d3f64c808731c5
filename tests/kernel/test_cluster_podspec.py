"""The pod's specification in real containers: who they are, what they share, what they may, how they end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.clusters import LocalCluster, call, is_running, local_cluster, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import EVENTS, NODES, PODS
from nodeport.node import network, processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of one static program, and nothing of this machine."""
    root = tmp_path_factory.mktemp("root")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/:/x\nweb:x:33:34::/:/x\n")
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "busybox")
    return root


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[LocalCluster]:
    outside = tmp_path_factory.mktemp("programs") / "greet"
    outside.write_text("#!/bin/sh\necho hello $1 from $0\n")
    outside.chmod(0o755)
    with local_cluster(tmp_path_factory.mktemp("podspec")) as made:
        images = (f"mine:1={folder}", f"example.org/greet={outside}", f"whoami={shutil.which('id')}")
        made.up("--nodes", "1", *(word for image in images for word in ("--image", image)))
        yield made


def ended(cluster: LocalCluster, name: str, **options: Any) -> tuple[str, JsonObject]:
    """The log and the status of a pod that has run to its end."""
    cluster.pod(name, spec_restartPolicy="Never", **options)
    pod = cluster.wait_for_pod(
        name, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"), "it has ended"
    )
    return cluster.log_of(name).strip(), pod["status"]


def said(cluster: LocalCluster, name: str, script: str, **options: Any) -> list[str]:
    return ended(cluster, name, command=["sh", "-c", script], **options)[0].splitlines()


def node_address(cluster: LocalCluster) -> str:
    return str(cluster.get(NODES, "node-1")["status"]["addresses"][0]["address"])


def container(name: str, script: str, **options: Any) -> JsonObject:
    return {"name": name, "image": "nodeport/echo", "command": ["sh", "-c", script], **options}


def test_programs_and_folders_of_the_machine_are_images(cluster: LocalCluster) -> None:
    assert ended(cluster, "greet", image="example.org/greet:7", args=["you"])[0] == (
        "hello you from /opt/nodeport/bin/greet"
    )
    log, status = ended(cluster, "whoami", image="whoami", args=["-u"])
    assert log == "0"
    assert status["containerStatuses"][0]["imageID"].startswith("docker.io/library/whoami@sha256:")


def test_a_static_program_runs_in_a_root_with_nothing_else(cluster: LocalCluster, folder: Path) -> None:
    script = "id -u; touch /mine 2>&1 | grep -c denied; test -e /usr || echo nothing else; echo $0"
    command = ["/busybox", "sh", "-c", script, "a b"]
    context = {"runAsUser": 33}
    log, status = ended(cluster, "static", image="mine:1", command=command, securityContext=context)
    assert (log.splitlines(), status["phase"]) == (["33", "1", "nothing else", "a b"], "Succeeded")
    log, _ = ended(cluster, "static-root", image="mine:1", command=command)
    assert log.splitlines() == ["0", "0", "nothing else", "a b"]
    assert not (folder / "mine").exists()
    cluster.pod("no-command", image="mine:1")
    pod = cluster.wait_for_pod(
        "no-command",
        lambda pod: "no command specified" in str(pod["status"].get("containerStatuses")),
        "the reason",
    )
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    cluster.delete(PODS, "no-command", gracePeriodSeconds=0)


def test_rights_are_those_that_the_security_context_names(cluster: LocalCluster) -> None:
    script = (
        "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; touch /x 2>/dev/null || echo read-only; "
        "unshare -n true 2>/dev/null || echo refused; mount -t tmpfs t /mnt 2>/dev/null || echo refused"
    )
    context = {
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}, "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    words = " ".join(said(cluster, "rights", script, securityContext=context)).split()
    assert words == [
        "CapEff:", "0000000000000001", "NoNewPrivs:", "1", "Seccomp:", "2", "read-only", "refused", "refused",
    ]  # fmt: skip


def test_a_privileged_container_may_what_the_machine_may(cluster: LocalCluster) -> None:
    script = "mount -t tmpfs t /mnt && echo mounted; test -w /proc/sys/kernel/domainname && echo writable; ls /dev | grep -c ."
    lines = said(cluster, "privileged", script, securityContext={"privileged": True})
    assert lines[:2] == ["mounted", "writable"]
    assert int(lines[2]) > 15


def test_a_user_that_must_not_be_root_is_refused_as_root(cluster: LocalCluster) -> None:
    cluster.pod("root", command=["true"], securityContext={"runAsNonRoot": True})
    pod = cluster.wait_for_pod("root", lambda pod: "runAsNonRoot" in str(pod["status"]), "the reason")
    waiting = pod["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert waiting["message"].startswith(
        'container has runAsNonRoot and image will run as root (pod: "root_default('
    )
    cluster.delete(PODS, "root", gracePeriodSeconds=0)


def test_memory_beyond_the_limit_ends_a_container(cluster: LocalCluster) -> None:
    script = "a = bytearray(64 << 20); a[:: 4096] = b'x' * len(a[:: 4096])"
    limits = {"limits": {"memory": "32Mi", "cpu": "500m"}}
    _, status = ended(cluster, "hungry", command=["python3", "-c", script], resources=limits)
    state = status["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (137, "OOMKilled")


def test_limits_are_cgroup_figures(cluster: LocalCluster) -> None:
    script = (
        "cd /sys/fs/cgroup;"
        "cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us 2>/dev/null || cat memory.max cpu.max"
    )
    limits = {"limits": {"memory": "64Mi", "cpu": "250m"}}
    assert said(cluster, "limits", script, resources=limits)[:2] in (
        ["67108864", "25000"], ["67108864", "25000 100000"],
    )  # fmt: skip


def test_last_words_are_told(cluster: LocalCluster) -> None:
    script = "echo in the log; echo -n why > /dev/termination-log; exit 3"
    _, status = ended(cluster, "words", command=["sh", "-c", script])
    state = status["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["message"]) == (3, "why")
    _, status = ended(
        cluster, "log-words", command=["sh", "-c", "echo out; echo -n in the log; exit 3"], terminationMessagePath="/tmp/words",
        terminationMessagePolicy="FallbackToLogsOnError",
    )  # fmt: skip
    assert status["containerStatuses"][0]["state"]["terminated"]["message"] == "out\nin the log"


def test_a_pod_is_called_by_its_names(cluster: LocalCluster) -> None:
    script = "hostname; hostname -f; cat /etc/resolv.conf; grep extra /etc/hosts; echo $HOSTNAME"
    lines = said(
        cluster, "named", script, spec_hostname="front", spec_subdomain="sub", spec_setHostnameAsFQDN=True,
        spec_hostAliases=[{"ip": "1.2.3.4", "hostnames": ["extra"]}],
        spec_dnsConfig={"searches": ["example.org"], "options": [{"name": "ndots", "value": "2"}]},
    )  # fmt: skip
    whole = "front.sub.default.svc.cluster.local"
    assert lines[:2] == [whole, whole]
    assert lines[2].startswith("search default.svc.cluster.local svc.cluster.local cluster.local")
    assert lines[2].endswith("example.org")
    assert lines[3:] == ["nameserver 10.96.0.10", "options ndots:2", "1.2.3.4\textra", whole]


def test_containers_share_processes_only_when_the_pod_says_so(cluster: LocalCluster) -> None:
    side = container("side", "sleep 1000", restartPolicy="Always")
    count = (
        "sleep 0.3; ls /proc | grep -c '^[0-9]'; cat /proc/1/comm; (sleep 0 &); n=0;"
        "while sleep 0.2; [ $(ps -e | grep -c defunct) != 0 ] && [ $n -lt 100 ]; do n=$((n + 1)); done; ps -e | grep -c defunct"
    )
    shared = said(cluster, "shared", count, spec_shareProcessNamespace=True, spec_initContainers=[side])
    alone = said(cluster, "alone", count, spec_initContainers=[side])
    assert shared[1] == "sleep"
    assert alone[1] == "sh"
    assert int(shared[0]) > int(alone[0])
    assert shared[2] == "0"


def test_the_machines_processes_and_ipc_are_seen_on_demand(cluster: LocalCluster) -> None:
    lines = said(cluster, "host", "readlink /proc/self/ns/pid /proc/self/ns/ipc",
                 spec_hostPID=True, spec_hostIPC=True)  # fmt: skip
    assert lines == [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "ipc")]


def test_on_the_nodes_network_a_pod_has_the_nodes_address_and_name(cluster: LocalCluster) -> None:
    cluster.pod("on-node", spec_hostNetwork=True, env=[{"name": "PORT", "value": "18080"}])
    pod = cluster.wait_for_pod("on-node", is_running, "it runs")
    address = node_address(cluster)
    assert pod["status"]["podIP"] == address
    assert call(address, 18080)["pod"] == "on-node"
    cluster.delete(PODS, "on-node", gracePeriodSeconds=0)


def test_a_host_port_leads_to_its_pod_and_goes_with_it(cluster: LocalCluster) -> None:
    address = node_address(cluster)
    ports = [
        {"containerPort": 8080, "hostPort": 18081},
        {"containerPort": 8080, "hostPort": 18082, "hostIP": address},
        {"containerPort": 8080, "hostPort": 18083, "hostIP": "172.30.255.254"},
        {"containerPort": 8080, "hostPort": 18081, "protocol": "UDP"},
    ]
    cluster.pod("ported", ports=ports)
    pod = cluster.wait_for_pod("ported", is_running, "it runs")
    for port in (18081, 18082):
        assert call(address, port)["pod"] == "ported"
    with pytest.raises(OSError):  # noqa: PT011 - refused
        call(address, 18083)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(20)
        udp.connect((address, 18081))
        udp.send(b"ping")
        assert udp.recv(100).startswith(b"ported")
    inside = said(
        cluster, "caller", f"python3 -c \"import urllib.request as u; print(u.urlopen('http://{address}:18081/hostname',timeout=20).read())\""
    )  # fmt: skip
    assert inside == ["b'ported'"]
    netns = network.node_netns(cluster.paths.name, "node-1")
    cluster.kill("nodes")
    cluster.up()
    assert call(address, 18081)["pod"] == "ported"
    cluster.delete(PODS, "ported", gracePeriodSeconds=0)

    def tables() -> str:
        words = ["nsenter", f"--net={netns}", "nft", "list", "tables"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    wait_for(lambda: "nodeport-hostports" not in tables(), "the table to go")
    assert pod["status"]["phase"] == "Running"


def test_sidecars_start_first_and_stop_last(cluster: LocalCluster) -> None:
    share = [{"name": "share", "mountPath": "/share"}]
    trap = (
        "trap 'echo {0} >> /share/ends; exit 0' TERM; echo {0} >> /share/starts; while :; do sleep 0.05; done"
    )
    probe = {"exec": {"command": ["test", "-e", "/share/starts"]}, "periodSeconds": 1}
    side = container(
        "side", trap.format("side"), restartPolicy="Always", volumeMounts=share, startupProbe=probe
    )
    once = container("once", "echo once >> /share/starts", volumeMounts=share)
    folder = cluster.paths.data / "shared-by-sidecars"
    folder.mkdir()
    cluster.pod(
        "sided", command=["sh", "-c", trap.format("main")], volumeMounts=share, spec_initContainers=[side, once],
        spec_volumes=[{"name": "share", "hostPath": {"path": str(folder)}}],
    )  # fmt: skip
    wait_for(lambda: "main" in (folder / "starts").read_text(), "all have started")
    assert (folder / "starts").read_text().split() == ["side", "once", "main"]
    cluster.delete(PODS, "sided")
    wait_for(lambda: "side" in (folder / "ends").read_text(), "all have ended")
    assert (folder / "ends").read_text().split() == ["main", "side"]


def test_what_can_never_run_fails_with_its_reason(cluster: LocalCluster) -> None:
    cluster.pod("refused", spec_securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})
    pod = cluster.wait_for_pod("refused", lambda pod: pod["status"].get("phase") == "Failed", "Failed")
    assert pod["status"]["reason"] == "SysctlForbidden"
    assert "containerStatuses" not in pod["status"]  # kubectl would show their reason instead
    assert "kernel.msgmax" in pod["status"]["message"]

    def reasons() -> set[str]:
        found = cluster.items(EVENTS)
        return {event["reason"] for event in found if event["involvedObject"]["name"] == "refused"}

    wait_for(lambda: "SysctlForbidden" in reasons(), "the event")


def test_a_safe_sysctl_is_the_pods_own(cluster: LocalCluster) -> None:
    sysctls = [{"name": "net.ipv4.ip_local_port_range", "value": "40000 40100"}]
    lines = said(
        cluster,
        "sysctl",
        "cat /proc/sys/net/ipv4/ip_local_port_range",
        spec_securityContext={"sysctls": sysctls},
    )
    assert lines[0].split() == ["40000", "40100"]


def test_an_image_that_must_not_be_pulled_or_has_no_name_has_its_own_reason(cluster: LocalCluster) -> None:
    for name, image, reason in (
        ("never", "absent.example/x:1", "ErrImageNeverPull"), ("nameless", "No/Name", "InvalidImageName"),
    ):  # fmt: skip
        cluster.pod(name, image=image, imagePullPolicy="Never")
        cluster.wait_for_pod(name, lambda pod, reason=reason: reason in str(pod["status"]), reason)
        cluster.delete(PODS, name, gracePeriodSeconds=0)


def test_the_node_tells_of_its_images(cluster: LocalCluster) -> None:
    images = cluster.get(NODES, "node-1")["status"]["images"]
    assert {name for image in images for name in image["names"]} >= {
        "docker.io/nodeport/echo:latest", "docker.io/library/whoami:latest", "docker.io/library/mine:1",
    }  # fmt: skip


def orphaned(made: LocalCluster) -> int:
    """The first process of a container whose launcher and agent were killed."""
    made.up("--nodes", "1")
    made.pod("orphan", command=["sleep", "1000"])
    pod = made.wait_for_pod("orphan", is_running, "it runs")
    run = made.paths.run / "nodes/node-1/pods" / pod["metadata"]["uid"] / "containers/main/0"
    made.kill("nodes")
    os.kill(int((run / "launcher").read_text()), 9)
    pid = int((run / "running").read_text().split()[0])
    assert processes.start_time(pid), "nobody is there to end it"
    return pid


def test_down_takes_containers_along_whose_launchers_were_killed(tmp_path: Path) -> None:
    with local_cluster(tmp_path) as made:
        pid = orphaned(made)
        made.nodeport("down")
        assert not processes.start_time(pid)


def test_a_container_whose_launcher_was_killed_is_ended_by_the_next_agent(tmp_path: Path) -> None:
    with local_cluster(tmp_path) as made:
        pid = orphaned(made)
        made.up()

        def is_again(pod: JsonObject) -> bool:
            return bool(pod["status"]["containerStatuses"][0]["restartCount"] == 1) and is_running(pod)

        again = made.wait_for_pod("orphan", is_again, "it runs again")
        last = again["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["exitCode"], processes.start_time(pid)) == (137, 0)


def test_a_mapping_that_cannot_be_is_named_before_anything_changes(cluster: LocalCluster) -> None:
    for wrong, named in (("x", "must be NAME=PATH"), ("x=/nowhere", "must be a program or a folder")):
        assert named in cluster.nodeport("up", "--image", wrong, code=1)
