"""Endpoints and EndpointSlices over HTTP: generation, PUT to a missing name, warnings, fields of old versions."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
ENDPOINTS = "/api/v1/namespaces/default/endpoints"
DEPRECATED = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"


def endpoint_slice(name: str = "s", **fields: Any) -> Json:
    endpoints = [{"addresses": ["10.1.1.1"]}]
    return {"metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints, **fields}


async def test_the_generation_of_a_slice_counts_content_and_labels(raw: Any) -> None:
    made = await raw.create(SLICES, endpoint_slice())
    assert made["metadata"]["generation"] == 1
    generations = []
    for change in (
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"labels": {"a": "b"}}},
        {"endpoints": [{"addresses": ["10.1.1.2"]}]},
        {"endpoints": [{"addresses": ["10.1.1.2"]}]},
        {"ports": [{"port": 80}]},
    ):
        answer = await raw("PATCH", f"{SLICES}/s", change, Content_Type="application/merge-patch+json")
        generations.append(answer.json["metadata"]["generation"])
    assert generations == [1, 2, 3, 3, 4]


async def test_a_slice_has_no_status_and_is_not_made_by_an_update(raw: Any) -> None:
    assert (await raw("PUT", f"{SLICES}/s", endpoint_slice())).status == 404
    await raw.create(SLICES, endpoint_slice())
    assert (await raw("GET", f"{SLICES}/s/status")).status == 404


async def test_endpoints_are_made_by_an_update_and_always_come_with_a_warning(raw: Any) -> None:
    subsets = [{"addresses": [{"ip": "10.1.1.1"}], "ports": [{"port": 80}]}]
    body = {"metadata": {"name": "e"}, "subsets": subsets}
    made = await raw("PUT", f"{ENDPOINTS}/e", body)
    assert made.status == 201
    assert made.json["subsets"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]
    assert "generation" not in made.json["metadata"]
    for method in ("GET", "DELETE"):
        answer = await raw(method, f"{ENDPOINTS}/e")
        assert answer.warnings == [f'299 - "{DEPRECATED}"']


async def test_the_topology_of_the_older_version_is_not_writable(raw: Any) -> None:
    old = {"addresses": ["10.1.1.1"], "deprecatedTopology": {"kubernetes.io/hostname": "n"}}
    made = await raw.create(SLICES, endpoint_slice(endpoints=[old]))
    assert made["endpoints"] == [{"addresses": ["10.1.1.1"], "conditions": {}}]
    changed = await raw("PUT", f"{SLICES}/s", {**made, "endpoints": [old]})
    assert (
        changed.json["endpoints"] == made["endpoints"][:1] == [{"addresses": ["10.1.1.1"], "conditions": {}}]
    )


async def test_a_slice_of_too_many_endpoints_or_of_another_type_is_refused(raw: Any) -> None:
    many = endpoint_slice(endpoints=[{"addresses": ["10.1.1.1"]}] * 1001)
    refused = await raw("POST", SLICES, many)
    assert (refused.status, refused.reason) == (422, "Invalid")
    assert refused.message == (
        'EndpointSlice.discovery.k8s.io "s" is invalid: endpoints: Too many: 1001: must have at most 1000 items'
    )
    made = await raw.create(SLICES, endpoint_slice(endpoints=[]))
    made["addressType"] = "IPv6"
    assert (await raw("PUT", f"{SLICES}/s", made)).message.endswith(
        'addressType: Invalid value: "IPv6": field is immutable'
    )


async def test_an_ipv6_address_in_another_form_comes_with_a_warning(raw: Any) -> None:
    odd = endpoint_slice(addressType="IPv6", endpoints=[{"addresses": ["fd00:0:0::1"]}])
    answer = await raw("POST", SLICES, odd)
    assert answer.status == 201
    [warning] = answer.warnings
    assert "should be in RFC 5952 canonical format" in warning


async def test_lists_that_were_not_given_are_shown_as_null(raw: Any) -> None:
    made = await raw.create(SLICES, {"metadata": {"name": "s"}, "addressType": "IPv4"})
    assert (made["endpoints"], made["ports"]) == (None, None)
    assert (await raw.get(f"{SLICES}/s")) == made


async def test_a_hint_without_a_name_has_an_empty_one(raw: Any) -> None:
    hinted = {"addresses": ["10.1.1.1"], "hints": {"forZones": [{}]}}
    made = await raw.create(SLICES, endpoint_slice(endpoints=[hinted]))
    assert made["endpoints"][0]["hints"] == {"forZones": [{"name": ""}]}
    hinted["hints"] = {"forNodes": [{}]}
    refused = await raw("POST", SLICES, endpoint_slice("t", endpoints=[hinted]))
    assert "endpoints[0].hints.forNodes[0].name: Invalid value: " in refused.message
