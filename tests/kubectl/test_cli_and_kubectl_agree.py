"""``nodeport get|apply|delete|expose|scale`` beside the real kubectl, on one API server: same words, same effects."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tooling import tool

ROOT = Path(__file__).resolve().parents[2]

SERVER = """
import asyncio, sys
from pathlib import Path
from nodeport.apiserver.pki import ClusterPki
from nodeport.apiserver.server import ApiServer, ApiServerConfig, TlsFiles
from nodeport.client.kubeconfig import merge
from nodeport.store.memory import MemoryStore

async def main():
    folder = Path(sys.argv[1])
    pki = ClusterPki.ensure(folder / "pki")
    server = ApiServer(ApiServerConfig(
        store=MemoryStore(), listen=(("127.0.0.1", 0),), advertise=("192.0.2.10", 6443), tls=TlsFiles(pki.server.cert, pki.server.key, pki.ca.cert)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        await server.wait_until_serving()
        url = f"https://127.0.0.1:{server.addresses[0][1]}"
        merge(folder / "kubeconfig", name="test", server=url, ca=pki.ca_pem,
              cert=pki.admin.cert.read_bytes(), key=pki.admin.key.read_bytes())
        print("serving", flush=True)

asyncio.run(main())
"""

DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [{"name": "web", "image": "nodeport/echo", "ports": [{"containerPort": 8080}]}]
            },
        },
    },
}


def service(name: str, node_port: int, **spec: object) -> dict[str, object]:
    ports = [{"port": 80, "targetPort": 8080, "nodePort": node_port}]
    whole = {"type": "NodePort", "selector": {"app": "web"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": whole}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@dataclass
class Cluster:
    """One API server without nodes, and the two programs."""

    folder: Path
    kubectl_path: Path

    def run(self, program: str, *words: str) -> Result:
        path = (
            str(self.kubectl_path)
            if program == "kubectl"
            else str(Path(sys.executable).with_name("nodeport"))
        )
        environment = {
            **os.environ, "KUBECONFIG": str(self.folder / "kubeconfig"), "KUBECACHEDIR": str(self.folder / "cache"),
            "HOME": str(self.folder),
        }  # fmt: skip
        done = subprocess.run([path, *words], capture_output=True, text=True, env=environment, timeout=60)
        return Result(done.returncode, done.stdout, done.stderr)

    def nodeport(self, *words: str) -> Result:
        return self.run("nodeport", *words)

    def kubectl(self, *words: str) -> Result:
        return self.run("kubectl", *words)

    def manifest(self, *objects: object) -> str:
        file = self.folder / "manifest.yaml"
        file.write_text("\n---\n".join(json.dumps(one) for one in objects))
        return str(file)

    def get(self, *words: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.kubectl("get", *words, "-o", "json").out)
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a running server; holds its kubeconfig."""
    made = tmp_path_factory.mktemp("cluster")
    with subprocess.Popen([sys.executable, "-c", SERVER, made], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "serving\n"
            yield made
        finally:
            server.terminate()


def fetched(age: str) -> Path:
    return Path(tool("kubectl", age))


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Cluster:
    return Cluster(folder, fetched("newest"))


@pytest.fixture(scope="module", params=["oldest", "newest"])
def any_kubectl(request: pytest.FixtureRequest, folder: Path) -> Cluster:
    return Cluster(folder, fetched(request.param))


STANDING = (DEPLOYMENT, service("a", 30007), service("bbbbbbbb", 30008))


@pytest.fixture(scope="module")
def standing(cluster: Cluster) -> Cluster:
    """With a namespace that holds a deployment and two Services, for looking only."""
    cluster.kubectl("create", "namespace", "standing")
    made = cluster.kubectl("apply", "-n", "standing", "-f", cluster.manifest(*STANDING))
    assert made.code == 0, made.err
    return cluster


@pytest.fixture
def objects(cluster: Cluster) -> Iterator[Cluster]:
    """With a deployment and two Services, made by kubectl, and nothing of that afterwards."""
    made = cluster.kubectl(
        "apply", "-f", cluster.manifest(DEPLOYMENT, service("a", 30017), service("bbbbbbbb", 30018))
    )
    assert made.code == 0, made.err
    yield cluster
    cluster.kubectl("delete", "deploy,svc", "--field-selector=metadata.name!=kubernetes", "--wait=false")


LOOKS = [
    "svc", "services a", "svc/a", "svc/a svc/bbbbbbbb", "svc -o wide", "svc,deploy", "deploy/web svc/a", "deployments",
    "svc --show-labels", "deploy -o wide", "svc -A", "ns", "all", "svc -l component=apiserver", "nodes", "pods", "cm -A",
    "svc -o name", "deploy,svc -o name", "svc a -o json", "svc -o json", "svc a bbbbbbbb -o json", "svc --no-headers",
    "svc none", "svc a none", "svc none -o json", "pods -n nowhere", "svc --field-selector metadata.name=a",
    "endpointslices", "secrets", "leases -A", "svc -l a,,b", "svc --field-selector bogus=1",
]  # fmt: skip


def ageless(shown: str) -> str:
    """With a sign for each digit of an age: seconds pass between two commands."""
    return re.sub(r"\b(\d+[smhd]){1,2}\b", lambda age: re.sub(r"\d", "#", age[0]), shown)


@pytest.mark.parametrize("look", LOOKS)
def test_get_shows_what_kubectl_shows(standing: Cluster, look: str) -> None:
    ours = theirs = Result(-1, "", "")
    for _ in range(5):  # an age may become one digit longer between the two
        ours, theirs = (
            standing.run(program, "get", "-n", "standing", *look.split())
            for program in ("nodeport", "kubectl")
        )
        if ageless(ours.out) == ageless(theirs.out):
            break
    assert ageless(ours.out) == ageless(theirs.out)
    assert ours.err == theirs.err
    assert ours.code == theirs.code


def test_yaml_means_the_same(standing: Cluster) -> None:
    import yaml

    ours, theirs = (
        standing.run(program, "get", "-n", "standing", "svc", "a", "-o", "yaml").out
        for program in ("nodeport", "kubectl")
    )
    assert yaml.safe_load(ours) == yaml.safe_load(theirs)
    assert [line.split(":")[0] for line in ours.splitlines()] == [
        line.split(":")[0] for line in theirs.splitlines()
    ]


@pytest.mark.parametrize(("first", "second"), [("nodeport", "kubectl"), ("kubectl", "nodeport")])
def test_the_two_can_take_turns_in_applying(any_kubectl: Cluster, first: str, second: str) -> None:
    cluster = any_kubectl
    before = service("turns", 30100, externalIPs=["192.0.2.1"], publishNotReadyAddresses=True)
    after = service("turns", 30101, externalIPs=["192.0.2.2"])
    try:
        assert cluster.run(first, "apply", "-f", cluster.manifest(before)).out == "service/turns created\n"
        assert cluster.run(second, "apply", "-f", cluster.manifest(before)).out == "service/turns unchanged\n"
        assert cluster.run(second, "apply", "-f", cluster.manifest(after)).out == "service/turns configured\n"
        assert cluster.run(first, "apply", "-f", cluster.manifest(after)).out == "service/turns unchanged\n"
        spec = cluster.get("svc", "turns")["spec"]
        assert isinstance(spec, dict)
        assert (spec["externalIPs"], spec.get("publishNotReadyAddresses")) == (["192.0.2.2"], None)
        assert [port["nodePort"] for port in spec["ports"]] == [30101]
    finally:
        cluster.kubectl("delete", "svc", "turns")


def test_a_dry_run_changes_nothing(objects: Cluster) -> None:
    for mode, words in (("client", "(dry run)"), ("server", "(server dry run)")):
        manifest = objects.manifest(service("new", 30300), service("a", 30301))
        said = objects.nodeport("apply", "-f", manifest, f"--dry-run={mode}")
        assert said.out == f"service/new created {words}\nservice/a configured {words}\n"
    assert objects.nodeport("get", "svc", "new").code == 1


REFUSED = [
    service("taken", 30017), service("outside", 80), service("typo", 30200, slector={}), service("UPPER", 30200),
    service("twice", 30200, sessionAffinity="Sometimes", externalTrafficPolicy="Never"),
    {**service("lost", 30200), "metadata": {"name": "lost", "namespace": "nowhere"}},
]  # fmt: skip


@pytest.mark.parametrize("manifest", REFUSED, ids=lambda manifest: manifest["metadata"]["name"])
def test_a_refusal_is_told_in_the_same_words(objects: Cluster, manifest: dict[str, object]) -> None:
    file = objects.manifest(manifest)
    ours = objects.nodeport("apply", "-f", file)
    theirs = objects.kubectl("apply", "--validate=false", "-f", file)
    if "typo" not in str(manifest):
        assert ours.err == theirs.err
    else:
        assert 'unknown field "spec.slector"' in ours.err
    assert (ours.code, theirs.code != 0 or "typo" in str(manifest)) == (1, True)


def test_one_refused_manifest_does_not_stop_the_others(objects: Cluster) -> None:
    said = objects.nodeport("apply", "-f", objects.manifest(service("x", 30017), service("y", 30201)))
    assert (said.code, said.out) == (1, "service/y created\n")


def test_expose_makes_the_service_that_kubectl_makes(objects: Cluster) -> None:
    made = []
    for program in ("nodeport", "kubectl"):
        words = "expose deployment web --type=NodePort --port=80 --target-port=8080 --name=exposed"
        said = objects.run(program, *words.split())
        assert said.out == "service/exposed exposed\n", said.err
        spec = objects.get("svc", "exposed")["spec"]
        assert isinstance(spec, dict)
        for field in ("clusterIP", "clusterIPs"):
            spec.pop(field)
        spec["ports"][0].pop("nodePort")
        made.append(spec)
        objects.kubectl("delete", "svc", "exposed")
    assert made[0] == made[1]


def test_expose_can_name_the_node_port(objects: Cluster) -> None:
    said = objects.nodeport(
        *["expose", "deploy/web", "--type=NodePort", "--port=80", "--node-port=30205", "--name=named"]
    )
    assert said.code == 0, said.err
    assert "80:30205/TCP" in objects.nodeport("get", "svc", "named").out
    taken = objects.nodeport(
        *["expose", "deploy/web", "--type=NodePort", "--port=80", "--node-port=30205", "--name=named2"]
    )
    assert taken.err == (
        'The Service "named2" is invalid: spec.ports[0].nodePort: Invalid value: 30205: provided port is already allocated\n'
    )


def test_scale_sets_the_replicas(objects: Cluster) -> None:
    ours = objects.nodeport("scale", "deployment", "web", "--replicas=5")
    assert (ours.code, ours.out) == (0, objects.kubectl("scale", "deployment", "web", "--replicas=5").out)
    assert objects.get("deploy", "web")["spec"]["replicas"] == 5  # type: ignore[index]
    assert "was 5" in objects.nodeport("scale", "deploy/web", "--replicas=1", "--current-replicas=2").err
    missing = [
        objects.run(program, "scale", "deploy", "none", "--replicas=1") for program in ("nodeport", "kubectl")
    ]
    assert (missing[0].code, missing[0].out) == (1, "")
    assert 'deployments.apps "none" not found' in missing[0].err


def test_delete_says_what_the_newest_kubectl_says(objects: Cluster) -> None:
    ours = objects.nodeport("delete", "svc", "a")
    assert ours.out == 'service "a" deleted from default namespace\n'
    assert objects.kubectl("delete", "svc", "bbbbbbbb").out == ours.out.replace('"a"', '"bbbbbbbb"')
    gone = [objects.run(program, "delete", "svc", "a") for program in ("nodeport", "kubectl")]
    assert gone[0] == gone[1]


def test_delete_takes_manifests_and_labels(objects: Cluster) -> None:
    said = objects.nodeport("delete", "-f", objects.manifest(service("a", 30017), DEPLOYMENT))
    assert said.out.count("deleted") == 2
    assert objects.nodeport("delete", "svc", "-l", "app=none").err == "No resources found\n"
    assert objects.nodeport("delete", "svc").code == 1
    assert objects.kubectl("get", "svc", "bbbbbbbb").code == 0


def test_watch_shows_what_there_is_and_what_changes(objects: Cluster) -> None:
    environment = {**os.environ, "KUBECONFIG": str(objects.folder / "kubeconfig")}
    command = [Path(sys.executable).with_name("nodeport"), "get", "svc", "-w"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as watching:
        try:
            assert watching.stdout is not None
            shown = [watching.stdout.readline() for _ in range(4)]
            assert shown[0].startswith("NAME ")
            assert {line.split()[0] for line in shown[1:]} == {"kubernetes", "a", "bbbbbbbb"}
            objects.kubectl("apply", "-f", objects.manifest(service("late", 30206)))
            late = watching.stdout.readline()
            assert late.split()[0] == "late"
            assert late.index("NodePort") == shown[0].index("TYPE")
        finally:
            watching.terminate()


def node(name: str, address: str) -> dict[str, object]:
    status = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def test_service_prints_a_url_for_each_node_that_answers(objects: Cluster) -> None:
    slice_of_b = {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "local-1", "labels": {"kubernetes.io/service-name": "local"}},
        "endpoints": [{"addresses": ["10.244.0.9"], "nodeName": "node-b", "conditions": {"ready": True}}],
    }  # fmt: skip
    nodes = node("node-a", "192.0.2.11"), node("node-b", "192.0.2.12")
    local = service("local", 30210, externalTrafficPolicy="Local")
    made = objects.kubectl("create", "-f", objects.manifest(*nodes, local, slice_of_b))
    assert made.code == 0, made.err
    try:
        assert (
            objects.nodeport("service", "a", "--url").out
            == "http://192.0.2.11:30017\nhttp://192.0.2.12:30017\n"
        )
        assert objects.nodeport("service", "local", "--url").out == "http://192.0.2.12:30210\n"
        table = objects.nodeport("service", "a").out.splitlines()
        assert [line.split() for line in table[:2]] == [
            ["NODE", "PORT", "URL"],
            ["node-a", "80", "http://192.0.2.11:30017"],
        ]
        assert "type ClusterIP and has no node port" in objects.nodeport("service", "kubernetes").err
        missing = objects.nodeport("service", "none")
        assert (missing.code, missing.err) == (1, 'Error from server (NotFound): services "none" not found\n')
    finally:
        objects.kubectl("delete", "node", "node-a", "node-b")
        objects.kubectl("delete", "endpointslice", "local-1")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [("gett svc", "error: unknown command 'gett'; commands are up, "), ("get svc --nope", "error: no such option '--nope'"),
     ("get", "error: say which resource"), ("get svc -o jso", "error: invalid value for '-o'"),
     ("scale deploy x --replicas=many", "error: invalid value for '--replicas'"), ("apply", "error: missing option '-f'"),
     ("get widgets", 'error: the server doesn\'t have a resource type "widgets"')],
)  # fmt: skip
def test_a_mistake_is_told_in_one_sentence(cluster: Cluster, words: str, sentence: str) -> None:
    said = cluster.nodeport(*words.split())
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(sentence)


@pytest.mark.parametrize("given", ["", "does-not-exist", "not-yaml"])
def test_without_a_usable_kubeconfig_one_sentence_says_so(tmp_path: Path, given: str) -> None:
    path = tmp_path / "kubeconfig"
    if given == "not-yaml":
        path.write_text("{")
    command = [str(Path(sys.executable).with_name("nodeport")), "get", "svc"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "KUBECONFIG": str(path) if given else "", "HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
