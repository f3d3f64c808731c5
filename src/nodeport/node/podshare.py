"""The pod networks that the cluster gives to a node that does not know its own."""

from __future__ import annotations

import logging
from datetime import timedelta
from ipaddress import ip_network

from nodeport.api.resources import NODES
from nodeport.api.status import AlreadyExists, ApiError, NotFound
from nodeport.client.rest import RestClient, TransportError
from nodeport.kit.clock import Clock
from nodeport.node import node_status
from nodeport.node.addresses import IPNetwork
from nodeport.node.node_status import NodeFacts

POLL, PATIENCE = timedelta(milliseconds=200), timedelta(seconds=10)
UNREADY = "False", "KubeletNotReady", "the node waits for its podCIDRs"
_log = logging.getLogger(__name__)


async def given_pod_cidrs(client: RestClient, facts: NodeFacts, clock: Clock) -> tuple[IPNetwork, ...]:
    """Makes the Node, not ready yet, and waits until its podCIDRs are there; what is in the way is said once."""
    began, told = clock.monotonic(), ""
    while True:
        try:
            if found := await _known(client, facts, clock):
                return found
            trouble = (
                "nobody gives it podCIDRs: name them with --pod-cidr, or have a controller allocate them"
            )
        except (ApiError, TransportError) as error:
            trouble = str(error)
        if trouble != told and clock.monotonic() - began >= PATIENCE.total_seconds():
            _log.warning("node %s: %s", facts.name, trouble)
            told = trouble
        await clock.sleep(POLL.total_seconds())


async def _known(client: RestClient, facts: NodeFacts, clock: Clock) -> tuple[IPNetwork, ...]:
    """Raises ApiError, TransportError."""
    try:
        node = await client.get(NODES, facts.name)
    except NotFound:
        wanted = node_status.node_object(facts, clock.now())
        for condition in wanted["status"]["conditions"]:
            if condition["type"] == "Ready":
                condition["status"], condition["reason"], condition["message"] = UNREADY
        try:
            node = await client.create(NODES, wanted)
        except AlreadyExists:
            return ()
    spec = node.get("spec") or {}
    return tuple(ip_network(cidr, strict=False) for cidr in spec.get("podCIDRs") or ())
