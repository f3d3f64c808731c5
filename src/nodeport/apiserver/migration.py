"""Brings what an earlier version stored to this version's form; once, before the first request is served."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from nodeport.api.meta import NamespacedName
from nodeport.api.resources import SERVICES
from nodeport.api.services import default_on_read
from nodeport.apiserver.allocators import ipaddresses
from nodeport.apiserver.encoding import decode, encode_stored, key_of, prefix_of
from nodeport.kit.clock import Clock
from nodeport.store.base import Delete, KeyValue, Operation, Put, Store

OLD_ADDRESS_GUARDS = "/allocations/clusterips/"
"""Below it were the guards of ClusterIPs, with ``NAMESPACE/NAME`` of the Service as value, up to version 0.1."""
BATCH = 500


async def migrate(store: Store, clock: Clock, primary: str) -> int:
    """Turn guards of ClusterIPs into IPAddress objects and give Services the fields that were not filled in then.

    ``primary``: the cluster's primary family. Returns how many keys were written or removed. May be done again.
    """
    operations = [*await _addresses(store, clock), *await _services(store, primary)]
    for at in range(0, len(operations), BATCH):
        await store.commit(operations[at : at + BATCH])
    return len(operations)


async def _addresses(store: Store, clock: Clock) -> Iterable[Operation]:
    operations: list[Operation] = []
    for kv in (await store.list(OLD_ADDRESS_GUARDS)).items:
        put = await _address(store, clock, kv)
        if put is not None:
            operations.append(put)
        operations.append(Delete(kv.key, expect=kv.mod_revision))
    return operations


async def _address(store: Store, clock: Clock, kv: KeyValue) -> Put | None:
    namespace, _, name = kv.value.decode().partition("/")
    try:
        address = ip_address(kv.key.removeprefix(OLD_ADDRESS_GUARDS))
    except ValueError:
        return None
    guard = ipaddresses.guard(address)
    if await store.get(key_of(SERVICES, namespace, name)) is None or await store.get(guard) is not None:
        return None
    value = ipaddresses.stored(address, NamespacedName(namespace, name), clock.now())
    return Put(guard, value, expect=0)


async def _services(store: Store, primary: str) -> Iterable[Operation]:
    operations: list[Operation] = []
    for kv in (await store.list(prefix_of(SERVICES))).items:
        if b'"ipFamilies":' in kv.value:
            continue
        service = decode(kv.value)
        completed = default_on_read(service, primary)
        if completed is not service:
            operations.append(Put(kv.key, encode_stored(completed), expect=kv.mod_revision))
    return operations
