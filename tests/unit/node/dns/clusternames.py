"""A zone over plain objects, and questions to it through bytes, read with another program's codec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Any

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.node.dns import message
from nodeport.node.dns.records import IPAddress, service_addresses, slice_addresses
from nodeport.node.dns.zone import Caches, Elsewhere, Zone

POD, OUTSIDE = "10.244.1.2", "203.0.113.9"


def service(name: str, namespace: str = "default", **spec: Any) -> JsonObject:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "ClusterIP", **spec},
    }


def endpoint_slice(
    of: str,
    *endpoints: JsonObject,
    ports: Iterable[JsonObject] = (),
    family: str = "IPv4",
    namespace: str = "default",
) -> JsonObject:
    return {
        "metadata": {
            "name": f"{of}-{family}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": of},
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


def endpoint(address: str, hostname: str = "", ready: bool | None = None) -> JsonObject:
    found: JsonObject = {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
    return found | ({"hostname": hostname} if hostname else {})


class Cluster:
    """Services and slices that may be changed; each change is told to the zone, as informers do."""

    def __init__(self, *objects: JsonObject) -> None:
        self.services: dict[NamespacedName, JsonObject] = {}
        self.slices: dict[NamespacedName, JsonObject] = {}
        self.zone = Zone(
            Caches(
                self.services.get,
                lambda key: [item for item in self.slices.values() if _owner(item) == key],
                lambda namespace: any(key.namespace == namespace for key in self.services),
                self._at_address,
            ),
            [ip_network("10.96.0.0/16")],
        )
        self.zone.set_places(
            [ip_network("10.244.1.0/24"), ip_network("172.30.0.11"), ip_network("fd00::/64")]
        )
        for obj in objects:
            self.put(obj)

    def _at_address(self, address: IPAddress) -> Iterator[NamespacedName]:
        yield from (key for key, item in self.services.items() if address in service_addresses(item))
        yield from (_owner(item) for item in self.slices.values() if address in slice_addresses(item))

    def put(self, obj: JsonObject) -> None:
        key = NamespacedName.of(obj)
        if "addressType" in obj:
            self.slices[key] = obj
            self.zone.mark(_owner(obj))
        else:
            self.services[key] = obj
            self.zone.mark(key)

    def remove(self, name: str) -> None:
        key = NamespacedName("default", name)
        del self.services[key]
        self.zone.mark(key)

    def ask(
        self,
        name: str,
        kind: str = "A",
        *,
        number: int = 0,
        payload: int | None = 1232,
        room: int | None = None,
    ) -> dns.message.Message:
        asked = dns.message.make_query(
            name, kind, id=number, use_edns=payload is not None, payload=payload or 0
        )
        query = message.decode_query(asked.to_wire())
        found = self.zone.answer(query)
        assert not isinstance(found, Elsewhere), f"{found} is asked elsewhere"
        answer = dns.message.from_wire(message.encode_answer(query, found, room or query.room))
        assert asked.is_response(answer)
        return answer

    def said(self, name: str, kind: str = "A") -> list[str]:
        """The records of the answer as text, without time to live and class."""
        return lines(self.ask(name, kind).answer)


def lines(section: list[dns.rrset.RRset]) -> list[str]:
    return [
        f"{found.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(found.rdtype)} {item.to_text()}"
        for found in section
        for item in found
    ]


def _owner(item: JsonObject) -> NamespacedName:
    return NamespacedName(
        item["metadata"]["namespace"], item["metadata"]["labels"]["kubernetes.io/service-name"]
    )
