"""Puts the ServiceAccount ``default`` and the ConfigMap ``kube-root-ca.crt`` into every namespace."""

from __future__ import annotations

from datetime import timedelta

from nodeport.api.meta import JsonObject, NamespacedName, is_being_deleted
from nodeport.api.resources import CONFIG_MAPS, SERVICE_ACCOUNTS, Resource
from nodeport.api.status import AlreadyExists, Forbidden, NotFound
from nodeport.client.cache import Change
from nodeport.client.informer import Informer
from nodeport.client.rest import RestClient
from nodeport.controllers.loop import ReconcileLoop
from nodeport.kit.clock import Clock

DEFAULT = "default"
ROOT_CA = "kube-root-ca.crt"

_NOTE = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using "
    "internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed "
    "across distributions of Kubernetes clusters."
}


class ServiceAccountController:
    """``ca_pem`` verifies the API server."""

    def __init__(
        self,
        client: RestClient,
        *,
        namespaces: Informer,
        service_accounts: Informer,
        config_maps: Informer,
        ca_pem: bytes,
        clock: Clock,
    ) -> None:
        self._client = client
        self._namespaces = namespaces
        self._service_accounts = service_accounts
        self._config_maps = config_maps
        self._data = {"ca.crt": ca_pem.decode()}
        self.loop: ReconcileLoop[NamespacedName] = ReconcileLoop(
            "serviceaccount", self.reconcile, clock=clock,
            informers=(namespaces, service_accounts, config_maps), workers=4,
        )  # fmt: skip
        namespaces.subscribe(lambda change: self.loop.queue.add(NamespacedName.of(change.object)))
        service_accounts.subscribe(self._watcher_of(DEFAULT))
        config_maps.subscribe(self._watcher_of(ROOT_CA))

    async def run(self) -> None:
        await self.loop.run()

    def _watcher_of(self, name: str) -> _Watcher:
        return _Watcher(self.loop, name)

    async def reconcile(self, key: NamespacedName) -> timedelta | None:
        namespace = self._namespaces.get(key)
        if namespace is None or is_being_deleted(namespace):
            return None
        account: JsonObject = {"metadata": {"name": DEFAULT, "namespace": key.name}}
        if self._service_accounts.get(NamespacedName(key.name, DEFAULT)) is None:
            await self._create(SERVICE_ACCOUNTS, account)
        metadata = {"name": ROOT_CA, "namespace": key.name, "annotations": dict(_NOTE)}
        published = self._config_maps.get(NamespacedName(key.name, ROOT_CA))
        if published is None:
            await self._create(CONFIG_MAPS, {"metadata": metadata, "data": self._data})
        elif published.get("data") != self._data:
            await self._client.update(CONFIG_MAPS, {**published, "data": self._data})
        return None

    async def _create(self, resource: Resource, obj: JsonObject) -> None:
        try:
            await self._client.create(resource, obj)
        except AlreadyExists:
            return  # the cache does not show it yet
        except (Forbidden, NotFound):
            return  # the namespace is going


class _Watcher:
    """A handler that looks at the namespace of the objects called ``name``."""

    def __init__(self, loop: ReconcileLoop[NamespacedName], name: str) -> None:
        self._loop = loop
        self._name = name

    def __call__(self, change: Change) -> None:
        meta = change.object["metadata"]
        if meta["name"] == self._name and change.old is not None:
            self._loop.queue.add(NamespacedName("", meta["namespace"]))
