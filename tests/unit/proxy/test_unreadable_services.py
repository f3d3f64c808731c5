"""An object that makes no sense, whoever let it in, costs nobody but itself its service."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from nodeport.api.meta import JsonObject, NamespacedName
from nodeport.forwarding.diff import settle_forwarding
from nodeport.forwarding.table import Family, Forwarding, ServicePortName
from nodeport.kit.clock import SystemClock
from nodeport.proxy.observer import Unobserved
from nodeport.proxy.options import ProxyOptions
from nodeport.proxy.programmer import Caches, Programmer


@dataclass
class Held:
    """An informer's cache."""

    objects: list[JsonObject] = field(default_factory=list)

    def get(self, key: NamespacedName) -> JsonObject | None:
        return next((item for item in self.objects if NamespacedName.of(item) == key), None)

    def list(self) -> list[JsonObject]:
        return self.objects

    def by_index(self, _name: str, value: str) -> list[JsonObject]:
        return [item for item in self.objects if f"web/{item['metadata']['name']}" == value]


class Kernel:
    """A proxier at its start: nothing is there."""

    def slots(self) -> Kernel:
        return self

    def settle(self, _name: ServicePortName, forwarding: Forwarding) -> Forwarding:
        return settle_forwarding(None, forwarding)


def service(name: str, number: int, **spec: object) -> JsonObject:
    told = {"clusterIP": f"10.96.0.{number}", "ports": [{"port": 80}], **spec}
    return {"metadata": {"namespace": "web", "name": name}, "spec": told}


def slice_of(name: str, **said: object) -> JsonObject:
    return {"metadata": {"namespace": "web", "name": name}, "addressType": "IPv4", **said}


def test_the_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    services = [
        service("good", 1),
        service("portless", 2, ports=[{}]),
        service("listless", 3, ports=7),
        service("odd-range", 4, loadBalancerSourceRanges=[None]),
        service("odd-affinity", 5, sessionAffinity="ClientIP", sessionAffinityConfig=3),
        service("odd-slice", 6),
    ]
    slices = [
        slice_of("good", ports=[{"name": "", "port": 8080}], endpoints=[{"addresses": ["10.244.1.2"]}]),
        slice_of("odd-slice", ports=[{"name": "", "port": 8080}], endpoints=[{"addresses": [17]}]),
    ]
    caches = Caches(NamespacedName("", "n1"), Held(services), Held(slices), Held())  # type: ignore[arg-type]
    programmer = Programmer(Family.IPV4, caches, ProxyOptions(), SystemClock(), Unobserved())
    with caplog.at_level(logging.ERROR):
        programmer.start_over(Kernel())  # type: ignore[arg-type]
    served = {name.service.name for name, _ in programmer.table.items()}
    assert served == {"good"}
    told = " ".join(record.getMessage() for record in caplog.records)
    for item in services[1:]:
        assert f"web/{item['metadata']['name']} or a slice of it makes no sense" in told
