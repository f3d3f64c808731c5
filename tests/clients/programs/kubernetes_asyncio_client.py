"""kubernetes_asyncio. argv[1]: the namespace."""

import asyncio
import sys

import uses
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.rest import ApiException
from kubernetes_asyncio.stream import WsApiClient

NAMESPACE = sys.argv[1]


async def typed_service(core):
    made = await core.create_namespaced_service(NAMESPACE, uses.SERVICE)
    uses.expect(30086 <= made.spec.ports[0].node_port <= 32767, made.spec.ports)
    made.spec.type = "ClusterIP"
    replaced = await core.replace_namespaced_service("web", NAMESPACE, made)
    uses.expect(replaced.spec.ports[0].node_port is None, replaced.spec.ports)
    await core.delete_namespaced_service("web", NAMESPACE)


async def refused(core):
    try:
        await core.create_namespaced_service(
            NAMESPACE, {"metadata": {"name": "Bad_Name"}, "spec": {"ports": [{"port": 80}]}}
        )
    except ApiException as error:
        uses.expect(error.status == 422 and "RFC 1123" in error.body, error.body)
    else:
        raise AssertionError("not refused")


async def follow(core):
    listed = await core.list_namespaced_config_map(NAMESPACE)
    version, seen = listed.metadata.resource_version, []

    async def look():
        async with watch.Watch().stream(
            core.list_namespaced_config_map, NAMESPACE, resource_version=version, timeout_seconds=60
        ) as events:
            async for event in events:
                seen.append(event["type"])
                if event["type"] == "DELETED":
                    return

    reader = asyncio.create_task(look())
    await core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "watched"}})
    await core.delete_namespaced_config_map("watched", NAMESPACE)
    await asyncio.wait_for(reader, 65)
    uses.expect(seen == ["ADDED", "DELETED"], seen)


async def pod(core):
    await core.create_namespaced_pod(NAMESPACE, uses.POD)
    for _ in range(600):
        if (await core.read_namespaced_pod("web", NAMESPACE)).status.phase == "Running":
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("the pod does not run")


async def execute(_core):
    async with WsApiClient() as ws:
        text = await client.CoreV1Api(ws).connect_get_namespaced_pod_exec(
            "web", NAMESPACE, command=["sh", "-c", "echo out"], stderr=True, stdin=False, stdout=True, tty=False)  # fmt: skip
        uses.expect("out" in text, text)


USES = (
    ("Services: create, replace, delete", typed_service),
    ("a bad name: 422 with the text", refused),
    ("watch", follow),
    ("pods", pod),
    ("exec (WebSocket v4)", execute),
)


async def outcome(steps):
    await config.load_kube_config()
    async with client.ApiClient() as api:
        await steps(client.CoreV1Api(api))


for use, steps in USES:
    uses.tell(use, lambda steps=steps: asyncio.run(outcome(steps)))
