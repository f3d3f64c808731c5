"""What the manual says of allocation is what the server has."""

from __future__ import annotations

import re
from pathlib import Path

from nodeport.apiserver import repair, servicecidrs
from nodeport.apiserver.allocators import addressplan, portplan
from nodeport.client.rest import RestClient
from nodeport.testing.apiserver import running_apiserver

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "numbers.md").read_text()
SOURCES = "".join(
    Path(str(each.__file__)).read_text() for each in (addressplan, portplan, servicecidrs, repair)
)


async def test_the_page_names_every_metric_of_allocators_and_repair() -> None:
    async with running_apiserver() as api, RestClient(api.admin_config) as client:
        served = (await client.raw_get("/metrics")).decode()
    pattern = r"(?:kube_apiserver_(?:clusterip|nodeport)|apiserver_(?:clusterip|nodeport)_repair)_\w+"
    had = set(re.findall(rf"^# TYPE ({pattern}) ", served, re.MULTILINE))
    assert had == set(re.findall(rf"`({pattern})`", PAGE))
    assert len(had) == 13


def test_the_page_names_every_reason_of_an_event() -> None:
    raised = set(re.findall(r'"((?:Port|ClusterIP|IPAddress|Kubernetes)[A-Z]\w+)"', SOURCES))
    raised -= {"PortAllocation", "ClusterIPAllocation", "ClusterIPValidation", "IPAddressAllocation"}
    told = set(re.findall(r"`((?:Port|ClusterIP|IPAddress|Kubernetes)[A-Z]\w+)`", PAGE))
    assert told == raised
