"""ClusterIPs and node ports over HTTP: given, asked for, refused, kept and given back."""

from __future__ import annotations

import asyncio
import collections
from typing import Any

import pytest

from nodeport.apiserver.allocators import ipaddresses

Json = dict[str, Any]
SERVICES = "/api/v1/namespaces/default/services"
MERGE = "application/merge-patch+json"


def service(name: str = "s", **spec: Any) -> Json:
    wanted = {"type": "NodePort", "ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": wanted}


def ports(*entries: tuple[int, int]) -> list[Json]:
    return [
        {"name": f"p{index}", "port": port, **({"nodePort": number} if number else {})}
        for index, (port, number) in enumerate(entries)
    ]


async def guards(api: Any) -> set[str]:
    found = {kv.key.removeprefix("/allocations/") for kv in (await api.store.list("/allocations/")).items}
    addresses = (await api.store.list(ipaddresses.PREFIX)).items
    return found | {kv.key.replace(ipaddresses.PREFIX, "clusterips/") for kv in addresses}


async def test_a_service_gets_an_address_and_a_port_from_the_dynamic_bands(raw: Any, api: Any) -> None:
    spec = (await raw.create(SERVICES, service()))["spec"]
    port = spec["ports"][0]["nodePort"]
    assert 30086 <= port <= 32767
    assert spec["clusterIP"].startswith("10.96.")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert {f"nodeports/{port}", f"clusterips/{spec['clusterIP']}"} < await guards(api)


async def test_a_taken_port_is_refused_alone_before_validation(raw: Any) -> None:
    await raw.create(SERVICES, service(ports=ports((80, 30007))))
    answer = await raw("POST", SERVICES, service("t", ports=[{"port": 0, "nodePort": 30007}]))
    assert answer.status == 422
    assert answer.message == (
        'Service "t" is invalid: spec.ports[0].nodePort: Invalid value: 30007: provided port is already allocated'
    )
    again = await raw("POST", SERVICES, service(ports=ports((80, 30007))))
    assert (again.status, "provided port is already allocated" in again.message) == (422, True)


@pytest.mark.parametrize("port", [29999, 32768, 80, -1])
async def test_a_port_out_of_range_is_refused(raw: Any, port: int) -> None:
    answer = await raw("POST", SERVICES, service(ports=ports((80, port))))
    assert answer.status == 422
    assert answer.message == (
        f'Service "s" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is not in the valid '
        "range. The range of valid ports is 30000-32767"
    )


async def test_addresses_are_refused_when_taken_or_foreign(raw: Any) -> None:
    for address, why in (
        ("10.96.0.1", "provided IP is already allocated"),
        ("10.97.0.1", "the provided network does not match the current range"),
        ("10.96.0.0", "the provided network does not match the current range"),
    ):
        answer = await raw("POST", SERVICES, service(clusterIP=address))
        assert answer.status == 422
        assert answer.message == (
            f'Service "s" is invalid: spec.clusterIPs: Invalid value: ["{address}"]: failed to allocate IP {address}: '
            f"{why}"
        )
    bad = await raw("POST", SERVICES, service(clusterIP="10.96.0.999"))
    assert bad.status == 422
    assert "spec.clusterIPs[0]" in bad.message


async def test_what_was_taken_is_given_back_when_the_write_fails(raw: Any, api: Any) -> None:
    before = await guards(api)
    answer = await raw("POST", SERVICES, service(ports=ports((80, 30007), (0, 0))))
    assert answer.status == 422
    await raw.create(SERVICES, service(ports=ports((80, 30007))))
    answer = await raw("POST", SERVICES, service(clusterIP=""))
    assert (answer.status, answer.reason) == (409, "AlreadyExists")
    assert len(await guards(api)) == len(before) + 2


async def test_ports_with_one_number_share_a_node_port(raw: Any) -> None:
    entries = [{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]
    found = (await raw.create(SERVICES, service(ports=entries)))["spec"]["ports"]
    assert found[0]["nodePort"] == found[1]["nodePort"]
    entries = [
        {"name": "t", "port": 53, "protocol": "TCP"},
        {"name": "u", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]
    found = (await raw.create(SERVICES, service("b", ports=entries)))["spec"]["ports"]
    assert [each["nodePort"] for each in found] == [30053, 30053]
    entries[0].update(port=54, nodePort=30054)
    entries[1].update(port=55, nodePort=30054)
    answer = await raw("POST", SERVICES, service("c", ports=entries))
    assert (
        "spec.ports[1].nodePort: Invalid value: 30054: provided port is already allocated" in answer.message
    )


async def test_applying_the_original_again_keeps_what_was_allocated(raw: Any, api: Any) -> None:
    made = await raw.create(SERVICES, service())
    revision = api.store.revision
    again = await raw("PUT", f"{SERVICES}/s", service())
    assert (again.status, again.json) == (200, made)
    assert api.store.revision == revision


async def test_becoming_a_cluster_ip_service_gives_ports_back(raw: Any, api: Any) -> None:
    made = await raw.create(SERVICES, service(ports=ports((80, 30007))))
    answer = await raw("PATCH", f"{SERVICES}/s", {"spec": {"type": "ClusterIP"}}, Content_Type=MERGE)
    assert answer.status == 200
    assert "nodePort" not in answer.json["spec"]["ports"][0]
    assert answer.json["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    assert "nodeports/30007" not in await guards(api)
    await raw.create(SERVICES, service("t", ports=ports((80, 30007))))
    back = await raw("PATCH", f"{SERVICES}/s", {"spec": {"type": "NodePort"}}, Content_Type=MERGE)
    assert back.json["spec"]["ports"][0]["nodePort"] not in (0, 30007)


async def test_a_refused_update_neither_takes_nor_gives(raw: Any, api: Any) -> None:
    made = await raw.create(SERVICES, service(ports=ports((80, 30007))))
    before = await guards(api)
    wanted = {"spec": {"ports": [{"port": 0, "nodePort": 30008}]}}
    answer = await raw("PATCH", f"{SERVICES}/s", wanted, Content_Type=MERGE)
    assert answer.status == 422
    assert await guards(api) == before
    await raw.create(SERVICES, service("t", ports=ports((80, 30008))))
    taken = await raw("POST", SERVICES, service("u", ports=ports((80, 30007))))
    assert taken.status == 422
    assert await raw.get(f"{SERVICES}/s") == made


async def test_changing_a_port_swaps_its_claim(raw: Any, api: Any) -> None:
    await raw.create(SERVICES, service(ports=ports((80, 30007))))
    wanted = {"spec": {"ports": ports((80, 30009))}}
    answer = await raw("PATCH", f"{SERVICES}/s", wanted, Content_Type=MERGE)
    assert answer.json["spec"]["ports"][0]["nodePort"] == 30009
    found = await guards(api)
    assert "nodeports/30009" in found
    assert "nodeports/30007" not in found
    duplicate = {"spec": {"ports": ports((80, 30009), (81, 30009))}}
    answer = await raw("PATCH", f"{SERVICES}/s", duplicate, Content_Type=MERGE)
    assert (answer.status, answer.message) == (500, "duplicate nodePort: {TCP 30009}")


async def test_external_names_own_nothing(raw: Any, api: Any) -> None:
    await raw.create(SERVICES, service(ports=ports((80, 30007))))
    wanted = {"spec": {"type": "ExternalName", "externalName": "example.com"}}
    answer = await raw("PATCH", f"{SERVICES}/s", wanted, Content_Type=MERGE)
    assert answer.status == 200, answer.body
    assert "clusterIP" not in answer.json["spec"]
    assert await guards(api) == {"clusterips/10.96.0.1"}
    back = await raw("PATCH", f"{SERVICES}/s", {"spec": {"type": "ClusterIP"}}, Content_Type=MERGE)
    assert back.status == 200, back.body
    assert f"clusterips/{back.json['spec']['clusterIP']}" in await guards(api)


async def test_an_address_may_not_change(raw: Any, api: Any) -> None:
    await raw.create(SERVICES, service())
    before = await guards(api)
    answer = await raw("PATCH", f"{SERVICES}/s", {"spec": {"clusterIP": "10.96.0.77"}}, Content_Type=MERGE)
    assert answer.status == 422
    assert "may not change once set" in answer.message
    assert await guards(api) == before


async def test_headless_services_have_no_address(raw: Any, api: Any) -> None:
    made = await raw.create(SERVICES, service(type="ClusterIP", clusterIP="None"))
    assert made["spec"]["clusterIPs"] == ["None"]
    assert (made["spec"]["ipFamilyPolicy"], made["spec"]["ipFamilies"]) == (
        "RequireDualStack",
        ["IPv4", "IPv6"],
    )
    selected = await raw.create(
        SERVICES, service("t", type="ClusterIP", clusterIP="None", selector={"a": "b"})
    )
    assert (selected["spec"]["ipFamilyPolicy"], selected["spec"]["ipFamilies"]) == ("SingleStack", ["IPv4"])
    assert await guards(api) == {"clusterips/10.96.0.1"}


async def test_a_single_stack_cluster_says_what_it_cannot_do(raw: Any) -> None:
    answer = await raw("POST", SERVICES, service(ipFamilyPolicy="RequireDualStack"))
    assert "this cluster is not configured for dual-stack services" in answer.message
    answer = await raw("POST", SERVICES, service(ipFamilies=["IPv6"]))
    assert 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster' in answer.message
    answer = await raw("POST", SERVICES, service(ipFamilyPolicy="PreferDualStack"))
    assert (answer.status, answer.json["spec"]["ipFamilies"]) == (201, ["IPv4"])


async def test_a_load_balancer_has_node_ports_and_a_health_check_port(raw: Any, api: Any) -> None:
    made = await raw.create(SERVICES, service(type="LoadBalancer", externalTrafficPolicy="Local"))
    assert made["spec"]["allocateLoadBalancerNodePorts"] is True
    health = made["spec"]["healthCheckNodePort"]
    assert {f"nodeports/{health}", f"nodeports/{made['spec']['ports'][0]['nodePort']}"} < await guards(api)
    answer = await raw("PATCH", f"{SERVICES}/s", {"spec": {"type": "NodePort"}}, Content_Type=MERGE)
    assert answer.status == 200, answer.body
    assert "healthCheckNodePort" not in answer.json["spec"]
    assert f"nodeports/{health}" not in await guards(api)
    taken = answer.json["spec"]["ports"][0]["nodePort"]
    wanted = service("t", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=taken)
    refused = await raw("POST", SERVICES, wanted)
    assert refused.status == 500
    assert f"failed to allocate requested HealthCheck NodePort {taken}" in refused.message


async def test_deleting_gives_everything_back(raw: Any, api: Any) -> None:
    await raw.create(SERVICES, service(ports=ports((80, 30007), (81, 0))))
    await raw("DELETE", f"{SERVICES}/s")
    assert await guards(api) == {"clusterips/10.96.0.1"}
    await raw.create(SERVICES, service(ports=ports((80, 30007))))


async def test_a_finalizer_keeps_the_port_until_the_end(raw: Any, api: Any) -> None:
    held = service(ports=ports((80, 30007)))
    held["metadata"]["finalizers"] = ["example.com/f"]
    await raw.create(SERVICES, held)
    await raw("DELETE", f"{SERVICES}/s")
    assert "nodeports/30007" in await guards(api)
    await raw("PATCH", f"{SERVICES}/s/status", {"metadata": {"finalizers": None}}, Content_Type=MERGE)
    assert await guards(api) == {"clusterips/10.96.0.1"}


async def test_dry_runs_reserve_nothing(raw: Any, api: Any) -> None:
    before = await guards(api)
    answer = await raw("POST", f"{SERVICES}?dryRun=All", service(ports=ports((80, 40000), (81, 0))))
    assert answer.status == 201
    assert [each["nodePort"] for each in answer.json["spec"]["ports"]] == [40000, 40001]
    await raw.create(SERVICES, service(ports=ports((80, 30007))))
    taken = await raw("POST", f"{SERVICES}?dryRun=All", service("t", ports=ports((80, 30007))))
    assert taken.status == 422
    assert len(await guards(api)) == len(before) + 2


async def test_the_kubernetes_service_has_the_first_address(raw: Any) -> None:
    found = await raw.get(f"{SERVICES}/kubernetes")
    assert found["spec"]["clusterIP"] == "10.96.0.1"
    assert found["metadata"]["labels"] == {"component": "apiserver", "provider": "kubernetes"}


async def test_of_a_thousand_claims_on_one_port_one_wins(raw: Any, api: Any) -> None:
    before = await guards(api)
    claims = (raw("POST", SERVICES, service(f"s{i}", ports=ports((80, 30007)))) for i in range(1000))
    answers = await asyncio.gather(*claims)
    assert collections.Counter(answer.status for answer in answers) == {201: 1, 422: 999}
    assert all("provided port is already allocated" in each.message for each in answers if each.status == 422)
    assert len(await guards(api)) == len(before) + 2
