"""What real containers see of volumes, of the API and of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.clusters import LocalCluster, local_cluster, wait_for
from nodeport.api.meta import JsonObject
from nodeport.api.resources import CONFIG_MAPS, EVENTS, PODS, SECRETS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("volumes")) as made:
        made.up("--nodes", "1")
        made.create(CONFIG_MAPS, {"metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}})
        made.create(SECRETS, {"metadata": {"name": "s"}, "stringData": {"k": "hidden"}})
        yield made


def said(cluster: LocalCluster, name: str, script: str, **options: Any) -> list[str]:
    """What a container says that runs ``script`` to its end."""
    cluster.pod(name, command=["sh", "-c", script], spec_restartPolicy="Never", **options)
    cluster.wait_for_pod(
        name, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"), "it has ended"
    )
    return cluster.log_of(name).splitlines()


def volume(name: str, **source: Any) -> JsonObject:
    return {"name": name, **source}


def mount(name: str, path: str = "", **options: Any) -> JsonObject:
    return {"name": name, "mountPath": path or f"/{name}", **options}


def events_of(cluster: LocalCluster, pod: str) -> list[str]:
    return [event["message"] for event in cluster.items(EVENTS) if event["involvedObject"]["name"] == pod]


def test_settings_are_files_with_their_modes(cluster: LocalCluster) -> None:
    items = [{"key": "a", "path": "deep/a", "mode": 0o600}]
    volumes = [
        volume("m", configMap={"name": "m", "items": items}),
        volume("s", secret={"secretName": "s", "defaultMode": 0o440}),
        volume("d", downwardAPI={"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}),
    ]
    script = "cat /m/deep/a /s/k /d/name; echo; stat -Lc %a /m/deep/a /s/k; touch /m/x 2>/dev/null || echo read-only"
    lines = said(
        cluster, "files", script, spec_volumes=volumes, volumeMounts=[mount("m"), mount("s"), mount("d")]
    )
    assert lines == ["1hiddenfiles", "600", "440", "read-only"]


def test_a_changed_config_map_reaches_a_running_container_at_once(cluster: LocalCluster) -> None:
    cluster.create(CONFIG_MAPS, {"metadata": {"name": "live"}, "data": {"one": "old", "two": "old"}})
    script = "while sleep 0.05; do echo $(cat /live/one /live/two); done"
    cluster.pod(
        "live", command=["sh", "-c", script], volumeMounts=[mount("live")],
        spec_volumes=[volume("live", configMap={"name": "live"})],
    )  # fmt: skip
    wait_for(lambda: "oldold" in cluster.log_of("live"), "the first content")
    with cluster.session() as session:
        path = CONFIG_MAPS.path("default", "live")
        session.request(
            "PUT", path, body={"metadata": {"name": "live"}, "data": {"one": "new", "two": "new"}}
        )
    wait_for(lambda: "newnew" in cluster.log_of("live"), "the new content")
    cluster.delete(PODS, "live", gracePeriodSeconds=0)


def test_empty_volumes_are_shared_and_memory_has_a_size(cluster: LocalCluster) -> None:
    volumes = [
        volume("disk", emptyDir={}),
        volume("ram", emptyDir={"medium": "Memory", "sizeLimit": "1Mi"}),
    ]
    script = (
        "stat -fc %T /disk /ram; stat -c %a /disk /ram; head -c 2000000 /dev/zero > /ram/x 2>/dev/null || echo full;"
        "echo kept > /disk/x; cat /disk/x; touch /seen/y 2>/dev/null || echo read-only; cat /seen/x"
    )
    lines = said(
        cluster, "empty", script, spec_volumes=volumes,
        volumeMounts=[mount("disk"), mount("ram"), mount("disk", "/seen", readOnly=True)],
    )  # fmt: skip
    assert lines[1] == "tmpfs"
    assert lines[2:] == ["777", "777", "full", "kept", "read-only", "kept"]


def test_a_part_of_a_volume_cannot_lead_out_of_it(cluster: LocalCluster) -> None:
    volumes = [volume("e", emptyDir={}), volume("m", configMap={"name": "m"})]
    first = {
        "name": "first", "image": "nodeport/echo", "volumeMounts": [mount("e")],
        "command": ["sh", "-c", "mkdir /e/in; echo inside > /e/in/x; ln -s /etc /e/out; ln -s in /e/link"],
    }  # fmt: skip
    lines = said(
        cluster, "part", "cat /part/x /link/x /one; ls /new; echo $(ls /expr)", spec_volumes=volumes,
        spec_initContainers=[first], env=[{"name": "WHERE", "value": "in"}],
        volumeMounts=[
            mount("e", "/part", subPath="in"), mount("e", "/link", subPath="link"), mount("e", "/new", subPath="a/b"),
            mount("m", "/one", subPath="a"), mount("e", "/expr", subPathExpr="$(WHERE)"),
        ],
    )  # fmt: skip
    assert lines == ["inside", "inside", "1x"]
    cluster.pod(
        "escape", command=["true"], spec_volumes=volumes, spec_initContainers=[first], spec_restartPolicy="Never",
        volumeMounts=[mount("e", "/out", subPath="out")],
    )  # fmt: skip
    wait_for(
        lambda: any("leaves its volume" in text for text in events_of(cluster, "escape")), "it is refused"
    )
    cluster.delete(PODS, "escape", gracePeriodSeconds=0)


def test_host_paths_are_what_they_are_said_to_be(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    volumes = [
        volume("dir", hostPath={"path": str(tmp_path), "type": "Directory"}),
        volume("made", hostPath={"path": str(tmp_path / "made"), "type": "DirectoryOrCreate"}),
    ]
    lines = said(
        cluster, "host", "cat /dir/file; echo there > /made/x", spec_volumes=volumes,
        volumeMounts=[mount("dir", readOnly=True), mount("made")],
    )  # fmt: skip
    assert lines == ["of the host"]
    assert (tmp_path / "made/x").read_text() == "there\n"
    wrong = [volume("dir", hostPath={"path": str(tmp_path), "type": "Socket"})]
    cluster.pod("wrong", command=["true"], spec_volumes=wrong, volumeMounts=[mount("dir")])
    expected = (
        f'MountVolume.SetUp failed for volume "dir" : hostPath type check failed: {tmp_path} is not a socket'
    )
    wait_for(lambda: expected in events_of(cluster, "wrong"), "it is refused")
    cluster.delete(PODS, "wrong", gracePeriodSeconds=0)


def test_a_volume_of_an_unknown_kind_is_refused_in_words_before_an_image_is_looked_for(
    cluster: LocalCluster,
) -> None:
    volumes = [volume("n", nfs={"server": "example.org", "path": "/"})]
    cluster.pod(
        "nfs", image="nosuch", imagePullPolicy="Never", spec_volumes=volumes, volumeMounts=[mount("n")]
    )
    expected = 'MountVolume.SetUp failed for volume "n" : volumes of type nfs are not supported by this node'
    wait_for(lambda: expected in events_of(cluster, "nfs"), "it is refused")
    assert not [message for message in events_of(cluster, "nfs") if "image" in message.lower()]
    pod = cluster.get(PODS, "nfs")
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ContainerCreating"
    cluster.delete(PODS, "nfs", gracePeriodSeconds=0)


def test_the_group_of_a_pods_volumes_can_write_to_them(cluster: LocalCluster) -> None:
    lines = said(
        cluster, "group", "stat -c '%g %A' /e /m /part; stat -Lc '%g %a' /s/k; id -G;"
        "for at in /e /m /part; do touch $at/x && mkdir $at/in && touch $at/in/y && stat -c %g $at/x $at/in/y; done",
        spec_volumes=[
            volume("e", emptyDir={}), volume("m", emptyDir={"medium": "Memory"}),
            volume("s", secret={"secretName": "s", "defaultMode": 0o400}),
        ],
        volumeMounts=[mount("e"), mount("m"), mount("s"), mount("e", "/part", subPath="deep/part")],
        spec_securityContext={"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 2000, "supplementalGroups": [3000]},
    )  # fmt: skip
    assert lines == ["2000 drwxrwsrwx"] * 3 + ["2000 440", "1001 2000 3000"] + ["2000"] * 6


def test_the_folders_of_files_are_the_groups_as_well(cluster: LocalCluster) -> None:
    items = [{"key": "k", "path": "deep/k"}]
    lines = said(
        cluster, "folders", "stat -c '%g %a' /s; stat -Lc '%g %a' /s/..data /s/deep /s/deep/k; stat -c %g /s/deep",
        spec_volumes=[volume("s", secret={"secretName": "s", "items": items})], volumeMounts=[mount("s")],
        spec_securityContext={"fsGroup": 2000},
    )  # fmt: skip
    assert lines == ["2000 2755", "2000 2755", "2000 2755", "2000 644", "2000"]


def test_a_part_of_a_volume_is_as_open_as_the_volume(cluster: LocalCluster, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o750)
    lines = said(
        cluster, "closed", "stat -c %a /h /p", spec_volumes=[volume("h", hostPath={"path": str(closed)})],
        volumeMounts=[mount("h"), mount("h", "/p", subPath="new/part")],
    )  # fmt: skip
    assert lines == ["750", "750"]


def test_a_program_inside_finds_the_api_and_is_its_account(cluster: LocalCluster) -> None:
    """With nothing but what the pod was given: variables, certificate, token."""
    script = (
        "import json,os,ssl,urllib.request as u;d='/var/run/secrets/kubernetes.io/serviceaccount/';"
        "r=lambda n:open(d+n).read();e=os.environ;"
        "q=u.Request(f\"https://{e['KUBERNETES_SERVICE_HOST']}:{e['KUBERNETES_SERVICE_PORT']}/apis/authentication.k8s.io/v1/selfsubjectreviews\","
        "data=json.dumps({'kind':'SelfSubjectReview','apiVersion':'authentication.k8s.io/v1'}).encode(),"
        "headers={'Authorization':'Bearer '+r('token'),'Content-Type':'application/json'});"
        "a=json.load(u.urlopen(q,context=ssl.create_default_context(cafile=d+'ca.crt'),timeout=20));"
        "print(a['status']['userInfo']['username'],r('namespace'))"
    )
    cluster.pod("inside", command=["python3", "-c", script], spec_restartPolicy="OnFailure")
    cluster.wait_for_pod("inside", lambda pod: pod["status"].get("phase") == "Succeeded", "it has asked")
    assert cluster.log_of("inside").splitlines()[-1] == "system:serviceaccount:default:default default"
    pod = cluster.get(PODS, "inside")
    assert pod["spec"]["volumes"][0]["name"].startswith("kube-api-access-")


def test_who_wants_no_token_gets_none(cluster: LocalCluster) -> None:
    assert said(
        cluster, "tokenless", "ls /var/run/secrets 2>&1 | wc -l; env | grep -c KUBERNETES_SERVICE_HOST",
        spec_automountServiceAccountToken=False,
    )[1] == "1"  # fmt: skip
    assert cluster.get(PODS, "tokenless")["spec"].get("volumes") is None


def test_what_memory_volumes_mounted_goes_with_the_pod(cluster: LocalCluster) -> None:
    cluster.pod(
        "ram", spec_volumes=[volume("ram", emptyDir={"medium": "Memory"})],
        volumeMounts=[mount("ram"), mount("ram", "/part", subPath="x")],
    )  # fmt: skip
    pod = cluster.wait_for_pod("ram", lambda pod: pod["status"].get("phase") == "Running", "it runs")
    uid = pod["metadata"]["uid"]
    assert uid in Path("/proc/self/mountinfo").read_text()
    cluster.delete(PODS, "ram", gracePeriodSeconds=1)
    wait_for(lambda: uid not in Path("/proc/self/mountinfo").read_text(), "nothing is mounted")
    storage = cluster.paths.data / "nodes/node-1/pods" / uid
    wait_for(lambda: not storage.exists(), "its storage to go")
