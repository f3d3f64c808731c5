"""What nodes may do that RBAC does not say: it depends on which pods are theirs.

Rules: Kubernetes' node authorizer, with its reasons. There is no graph that is kept up to date: a node asks for a
Secret a few times in a pod's life, and the pods of one namespace are quickly searched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

from nodeport.api.meta import JsonObject
from nodeport.api.rbac import PolicyRule, concerns
from nodeport.api.resources import (
    CONFIG_MAPS,
    LEASES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from nodeport.apiserver.admission.noderestriction import LEASE_NAMESPACE
from nodeport.apiserver.auth import Attributes, Authorizer, Decision
from nodeport.apiserver.authorization.policy import NODE_RULES
from nodeport.apiserver.authorization.rbac import ALLOWED, DENIED
from nodeport.apiserver.encoding import decode, prefix_of
from nodeport.store.base import Store

_READS = ("get", "list", "watch")


class NodeAuthorizer:
    """Decides about nodes; everyone else, and what it does not allow, is left to ``others``."""

    def __init__(self, store: Store, others: Authorizer, rules: Iterable[PolicyRule] = NODE_RULES) -> None:
        self._store = store
        self._others = others
        self._rules = tuple(rules)

    async def decide(self, attributes: Attributes) -> Decision:
        node = attributes.user.node_name
        if not node:
            return await self._others.decide(attributes)
        own = await self._decide(node, attributes)
        if own.allowed:
            return own
        other = await self._others.decide(attributes)
        return other if other.allowed else own

    async def _decide(self, node: str, asked: Attributes) -> Decision:
        if not asked.resource:
            return DENIED
        if not asked.group:
            match asked.resource:
                case SECRETS.plural | CONFIG_MAPS.plural:
                    return await self._read_referenced(node, asked)
                case SERVICE_ACCOUNTS.plural:
                    return await self._service_account(node, asked)
                case NODES.plural:
                    return self._node(node, asked)
                case PODS.plural:
                    return await self._pod(node, asked)
        if (asked.group, asked.resource) == (LEASES.group, LEASES.plural):
            return _lease(node, asked)
        return self._by_rule(asked)

    def _by_rule(self, asked: Attributes) -> Decision:
        if any(concerns(rule, asked.verb, asked.group, asked.combined) for rule in self._rules):
            return ALLOWED
        return DENIED

    async def _read_referenced(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in _READS:
            return Decision(False, "can only read resources of this type")
        if asked.subresource:
            return Decision(False, "cannot read subresource")
        if not asked.namespace:
            return Decision(False, "can only read namespaced object of this type")
        if not asked.name:
            return Decision(False, "No Object name found")
        async for pod in self._pods(node, asked.namespace, asked.name):
            secrets, config_maps = references(pod)
            if asked.name in (secrets if asked.resource == SECRETS.plural else config_maps):
                return ALLOWED
        return _unrelated(node)

    async def _service_account(self, node: str, asked: Attributes) -> Decision:
        if (asked.verb, asked.subresource) not in (("create", "token"), ("get", "")):
            return Decision(False, "can only create tokens for individual service accounts")
        async for pod in self._pods(node, asked.namespace, asked.name):
            if (pod.get("spec") or {}).get("serviceAccountName") == asked.name:
                return ALLOWED
        return _unrelated(node)

    def _node(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource not in ("", "status"):
            return self._by_rule(asked)
        if asked.verb in ("create", "update", "patch"):
            return self._by_rule(asked)  # admission looks at the name
        if asked.verb in _READS and asked.name == node:
            return ALLOWED
        return Decision(False, f"node '{node}' cannot read '{asked.name}', only its own Node object")

    async def _pod(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource or asked.verb not in _READS:
            return self._by_rule(asked)  # admission looks at the pod
        if asked.verb != "get":
            if f"spec.nodeName={node}" in asked.field_selector.replace("==", "=").split(","):
                return ALLOWED
            return Decision(False, "can only list/watch pods with spec.nodeName field selector")
        async for pod in self._pods(node, asked.namespace, asked.name):
            if pod["metadata"]["name"] == asked.name:
                return ALLOWED
        return _unrelated(node)

    async def _pods(self, node: str, namespace: str, word: str) -> AsyncIterator[JsonObject]:
        """The namespace's pods on the node whose text has ``word`` in it: what is decoded are few."""
        on_node, mentioned = f'"nodeName":"{node}"'.encode(), f'"{word}"'.encode()
        listing = await self._store.list(prefix_of(PODS, namespace))
        for kv in listing.items:
            if on_node in kv.value and mentioned in kv.value:
                pod = decode(kv.value)
                if (pod.get("spec") or {}).get("nodeName") == node:
                    yield pod


def _unrelated(node: str) -> Decision:
    return Decision(False, f"no relationship found between node '{node}' and this object")


def _lease(node: str, asked: Attributes) -> Decision:
    if asked.verb not in ("get", "create", "update", "patch", "delete"):
        return Decision(False, "can only get, create, update, patch, or delete a node lease")
    if asked.namespace != LEASE_NAMESPACE:
        return Decision(False, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
    if asked.verb != "create" and asked.name != node:
        return Decision(False, "can only access node lease with the same name as the requesting node")
    return ALLOWED


def references(pod: JsonObject) -> tuple[set[str], set[str]]:
    """The names of the Secrets and of the ConfigMaps that a pod refers to."""
    spec = pod.get("spec") or {}
    secrets = {each.get("name") or "" for each in spec.get("imagePullSecrets") or []}
    config_maps: set[str] = set()
    for source in _sources(spec):
        for field, key in (("secret", "secretName"), ("secret", "name"), ("secretRef", "name")):
            secrets.add((source.get(field) or {}).get(key) or "")
        secrets.add((source.get("secretKeyRef") or {}).get("name") or "")
        for field in ("configMap", "configMapRef", "configMapKeyRef"):
            config_maps.add((source.get(field) or {}).get("name") or "")
    return secrets - {""}, config_maps - {""}


def _sources(spec: JsonObject) -> Iterator[JsonObject]:
    """Everything in a pod that may name a Secret or a ConfigMap."""
    for volume in spec.get("volumes") or []:
        yield volume
        yield from (volume.get("projected") or {}).get("sources") or []
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or []:
            yield from container.get("envFrom") or []
            for variable in container.get("env") or []:
                yield variable.get("valueFrom") or {}
