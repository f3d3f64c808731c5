"""kubectl's view of ServiceCIDRs, IPAddresses and the families of Services."""

from __future__ import annotations

from typing import Any

RANGE_AND_SERVICE = """
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [10.50.0.0/24]}
---
apiVersion: v1
kind: Service
metadata: {name: in-more}
spec: {type: NodePort, clusterIP: 10.50.0.9, ports: [{port: 80}]}
"""


async def test_ranges_and_addresses_are_shown_under_their_names(kubectl: Any) -> None:
    await kubectl("create", "service", "nodeport", "web", "--tcp=80:8080")
    address = (await kubectl("get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}")).out
    ranges = await kubectl("get", "servicecidrs", "--no-headers")
    assert ranges.out.split()[:2] == ["kubernetes", "10.96.0.0/16"]
    for word in ("ip", "ipaddress", "ipaddresses.networking.k8s.io"):
        shown = await kubectl("get", word, address, "--no-headers")
        assert shown.out.split() == [address, "services/default/web"]
    await kubectl("delete", "svc", "web")
    gone = await kubectl("get", "ip", address, fails=True)
    assert f'ipaddresses.networking.k8s.io "{address}" not found' in gone.err


async def test_a_range_and_a_service_that_needs_it_can_be_applied_together_again_and_again(
    kubectl: Any,
) -> None:
    first = await kubectl("apply", "-f", "-", stdin=RANGE_AND_SERVICE)
    assert first.lines == ["servicecidr.networking.k8s.io/more created", "service/in-more created"]
    second = await kubectl("apply", "-f", "-", stdin=RANGE_AND_SERVICE)
    assert second.lines == ["servicecidr.networking.k8s.io/more unchanged", "service/in-more unchanged"]
    refused = await kubectl(
        "apply", "-f", "-", stdin=RANGE_AND_SERVICE.replace("10.50.0.0/24", "10.51.0.0/24"), fails=True
    )
    assert 'spec.cidrs[0]: Invalid value: "10.51.0.0/24": field is immutable' in refused.err


async def test_a_cluster_of_one_family_says_what_it_cannot_do(kubectl: Any) -> None:
    await kubectl("create", "service", "clusterip", "web", "--tcp=80")
    patch = '{"spec":{"ipFamilyPolicy":"RequireDualStack"}}'
    refused = await kubectl("patch", "svc", "web", "-p", patch, fails=True)
    assert "this cluster is not configured for dual-stack services" in refused.err
    await kubectl("patch", "svc", "web", "-p", patch.replace("Require", "Prefer"))
    shown = await kubectl("get", "svc", "web", "-o", "jsonpath={.spec.ipFamilies}{.spec.ipFamilyPolicy}")
    assert shown.out in ('["IPv4"]PreferDualStack', "[IPv4]PreferDualStack")
