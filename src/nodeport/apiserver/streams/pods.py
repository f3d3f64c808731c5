"""Which container of which pod a client means."""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.api.status import BadRequest
from nodeport.apiserver.registry import Registry
from nodeport.apiserver.routes import Target


async def read_pod(registry: Registry, target: Target) -> JsonObject:
    """404 when there is none."""
    kv = await registry.find(target.resource, target.namespace, target.name)
    return registry.entry(target.resource).splicer.read(kv)


def choose_container(pod: JsonObject, asked: str) -> str:
    """The container that is meant; 400 when that is not clear."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    containers = [each["name"] for each in spec.get("containers") or []]
    initial = [each["name"] for each in spec.get("initContainers") or []]
    if asked:
        added = [each["name"] for each in spec.get("ephemeralContainers") or []]
        if asked not in (*containers, *initial, *added):
            raise BadRequest(f"container {asked} is not valid for pod {name}")
        return asked
    if len(containers) == 1:
        return str(containers[0])
    text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]"
    if initial:
        text += f" or one of the init containers: [{' '.join(initial)}]"
    raise BadRequest(text)


def check_assigned(pod: JsonObject) -> str:
    """The pod's node; 400 when it has none yet."""
    node = pod["spec"].get("nodeName")
    if not node:
        raise BadRequest(f"pod {pod['metadata']['name']} does not have a host assigned")
    return str(node)
