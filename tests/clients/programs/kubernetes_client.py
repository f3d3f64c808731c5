"""The official Python client. argv[1]: the namespace."""

import sys
import threading

import kubernetes
import uses
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

NAMESPACE = sys.argv[1]
config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()


def typed_service():
    made = core.create_namespaced_service(NAMESPACE, uses.SERVICE)
    uses.expect(30086 <= made.spec.ports[0].node_port <= 32767, made.spec.ports)
    core.patch_namespaced_service("web", NAMESPACE, {"metadata": {"labels": {"x": "y"}}})
    read = core.read_namespaced_service("web", NAMESPACE)
    uses.expect(read.metadata.labels == {"app": "web", "x": "y"}, read.metadata.labels)
    read.spec.type = "ClusterIP"
    core.replace_namespaced_service("web", NAMESPACE, read)
    listed = core.list_namespaced_service(NAMESPACE, label_selector="x=y")
    uses.expect([each.spec.ports[0].node_port for each in listed.items] == [None], listed.items)


def refused():
    wrong = {
        **uses.SERVICE,
        "metadata": {"name": "low"},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
    }
    try:
        core.create_namespaced_service(NAMESPACE, wrong)
    except ApiException as error:
        uses.expect(error.status == 422 and "not in the valid range" in error.body, error.body)
    else:
        raise AssertionError("not refused")


def follow():
    seen = []
    listed = core.list_namespaced_config_map(NAMESPACE)

    def look():
        following = watch.Watch()
        version = listed.metadata.resource_version
        for event in following.stream(
            core.list_namespaced_config_map, NAMESPACE, resource_version=version, timeout_seconds=60
        ):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                return

    reader = threading.Thread(target=look)
    reader.start()
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "watched"}, "data": {"a": "1"}})
    core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"a": "2"}})
    core.delete_namespaced_config_map("watched", NAMESPACE)
    reader.join(65)
    uses.expect([kind for kind, name in seen if name == "watched"] == ["ADDED", "MODIFIED", "DELETED"], seen)


def pages():
    for number in range(5):
        core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": f"page-{number}"}})
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, limit=2, _continue=token)
        names += [each.metadata.name for each in page.items]
        token = page.metadata._continue
        if not token:
            break
    uses.expect(
        {f"page-{number}" for number in range(5)} <= set(names) and len(names) == len(set(names)), names
    )


def from_manifests():
    utils.create_from_dict(client.ApiClient(), uses.DEPLOYMENT, namespace=NAMESPACE)
    uses.wait_for(
        lambda: apps.read_namespaced_deployment("many", NAMESPACE).status.ready_replicas == 2, "two ready"
    )
    apps.patch_namespaced_deployment_scale("many", NAMESPACE, {"spec": {"replicas": 1}})
    uses.wait_for(lambda: apps.read_namespaced_deployment("many", NAMESPACE).status.replicas == 1, "one left")


def dynamic_client():
    found = dynamic.DynamicClient(client.ApiClient())
    slices = found.resources.get(api_version="discovery.k8s.io/v1", kind="EndpointSlice")
    uses.expect(slices.get(namespace="default").items, "slices of default")
    services = found.resources.get(api_version="v1", kind="Service")
    uses.expect(services.get(name="kubernetes", namespace="default").spec.type == "ClusterIP", "type")


def dynamic_apply():
    services = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="Service")
    applied = {**uses.SERVICE, "metadata": {"name": "applied"}}
    services.server_side_apply(
        body=applied, name="applied", namespace=NAMESPACE, field_manager="test", force_conflicts=True
    )
    uses.expect(services.get(name="applied", namespace=NAMESPACE).spec.type == "NodePort", "type")


def pod():
    core.create_namespaced_pod(NAMESPACE, uses.POD)
    uses.wait_for(lambda: core.read_namespaced_pod("web", NAMESPACE).status.phase == "Running", "running")
    uses.wait_for(lambda: "listening" in core.read_namespaced_pod_log("web", NAMESPACE), "a log")


def execute():
    command = ["sh", "-c", "echo out; echo err >&2; read line; echo got $line; exit 3"]
    talk = stream(core.connect_get_namespaced_pod_exec, "web", NAMESPACE, command=command, stderr=True, stdin=True,
                  stdout=True, tty=False, _preload_content=False)  # fmt: skip
    talk.write_stdin("hello\n")
    talk.run_forever(timeout=20)
    text = talk.read_stdout()
    uses.expect("out" in text and "got hello" in text, text)
    uses.expect("err" in talk.read_stderr(), "stderr")
    code = talk.returncode  # the old client reads it once
    uses.expect(code == 3, code)


def forward():
    forwarded = portforward(core.connect_get_namespaced_pod_portforward, "web", NAMESPACE, ports="8080")
    socket = forwarded.socket(8080)
    socket.settimeout(10)
    socket.sendall(b"GET /?format=json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = b""
    while more := socket.recv(4096):
        text += more
    uses.expect(b'"pod":"web"' in text.replace(b" ", b""), text)
    uses.expect(forwarded.error(8080) is None, forwarded.error(8080))


def proxy():
    text = core.connect_get_namespaced_pod_proxy_with_path("web:8080", NAMESPACE, "healthz")
    uses.expect("ok" in text.lower(), text)


def token():
    made = core.create_namespaced_service_account_token(
        "default", NAMESPACE, {"spec": {"expirationSeconds": 600}}
    )
    own = client.Configuration.get_default_copy()
    own.cert_file = own.key_file = None
    own.api_key = {"authorization": f"Bearer {made.status.token}"}
    try:
        client.CoreV1Api(client.ApiClient(own)).list_namespaced_pod(NAMESPACE)
    except ApiException as error:
        uses.expect(
            error.status == 403 and f"system:serviceaccount:{NAMESPACE}:default" in error.body, error.body
        )
    else:
        raise AssertionError("allowed")


def clean():
    core.delete_collection_namespaced_config_map(
        NAMESPACE, label_selector="!kept", propagation_policy="Foreground"
    )
    core.delete_namespaced_pod("web", NAMESPACE)
    uses.wait_for(
        lambda: not [p for p in core.list_namespaced_pod(NAMESPACE).items if p.metadata.name == "web"], "gone"
    )


uses.tell("Services: create, read, patch, replace, list", typed_service)
uses.tell("a node port out of range: 422 with the text", refused)
uses.tell("watch", follow)
uses.tell("lists in pages", pages)
uses.tell("manifests, scale", from_manifests)
uses.tell("dynamic client", dynamic_client)
if int(kubernetes.__version__.split(".")[0]) >= 28:  # older ones cannot send the media type of an apply patch
    uses.tell("dynamic client: server-side apply", dynamic_apply)
uses.tell("pods and logs", pod)
uses.tell("exec (WebSocket v4)", execute)
uses.tell("port-forward (WebSocket v4)", forward)
uses.tell("pod proxy", proxy)
uses.tell("ServiceAccount tokens", token)
uses.tell("delete, deletecollection", clean)
