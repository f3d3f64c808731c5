"""ServiceCIDRs and IPAddresses over HTTP: what they may be, what may change, and what the server keeps of its own."""

from __future__ import annotations

from typing import Any

import pytest

Json = dict[str, Any]
CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
ADDRESSES = "/apis/networking.k8s.io/v1/ipaddresses"
MERGE = "application/merge-patch+json"
NO_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
NO_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
ONE_EACH = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
PARENT = {"resource": "services", "namespace": "default", "name": "a"}


def cidr(name: str, *cidrs: str, **more: Any) -> Json:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "spec": {"cidrs": list(cidrs)}, **more}  # fmt: skip


def address(name: str, parent: Json | None = PARENT, **metadata: Any) -> Json:
    spec = {"parentRef": parent} if parent is not None else {}
    metadata = {"name": name, **metadata} if name else metadata
    return {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("cidrs", "said"),
    [
        ([], "spec.cidrs: Required value: at least one CIDR required"),
        (["10.0.0.0/24", "fd00::/112", "10.1.0.0/24"],
         'spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/24","fd00::/112","10.1.0.0/24"]}: may only hold up to 2 values'),
        (["10.0.0.0/24", "10.1.0.0/24"],
         f'spec.cidrs: Invalid value: {{"CIDRs":["10.0.0.0/24","10.1.0.0/24"]}}: {ONE_EACH}'),
        (["fd00::/112", "fd01::/112"],
         f'spec.cidrs: Invalid value: {{"CIDRs":["fd00::/112","fd01::/112"]}}: {ONE_EACH}'),
        (["10.0.0.0"], f'spec.cidrs[0]: Invalid value: "10.0.0.0": {NO_CIDR}'),
        (["10.0.0.0/33"], f'spec.cidrs[0]: Invalid value: "10.0.0.0/33": {NO_CIDR}'),
        (["10.0.0.1/24"], 'spec.cidrs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length'),
        (["010.0.0.0/24"],
         'spec.cidrs[0]: Invalid value: "010.0.0.0/24": must not have leading 0s in IP or prefix length'),
        (["10.0.0.0/024"],
         'spec.cidrs[0]: Invalid value: "10.0.0.0/024": must not have leading 0s in IP or prefix length'),
        (["::ffff:10.0.0.0/120"],
         'spec.cidrs[0]: Invalid value: "::ffff:10.0.0.0/120": must not have an IPv4-mapped IPv6 address'),
        (["10.0.0.0/24", "FD00::/112"],
         'spec.cidrs[1]: Invalid value: "FD00::/112": must be in canonical form ("fd00::/112")'),
        (["fd00:0::/112"], 'spec.cidrs[0]: Invalid value: "fd00:0::/112": must be in canonical form ("fd00::/112")'),
    ],
)  # fmt: skip
async def test_ranges_that_no_service_cidr_may_have(raw: Any, cidrs: list[str], said: str) -> None:
    answer = await raw("POST", CIDRS, cidr("x", *cidrs))
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert answer.message == f'ServiceCIDR.networking.k8s.io "x" is invalid: {said}'


async def test_the_only_change_of_a_range_is_to_get_a_second_family(raw: Any) -> None:
    await raw.create(CIDRS, cidr("x", "10.50.0.0/24"))
    for cidrs, said in (
        (["10.51.0.0/24"], 'spec.cidrs[0]: Invalid value: "10.51.0.0/24": field is immutable'),
        (["10.51.0.0/24", "fd00::/112"], 'spec.cidrs[0]: Invalid value: "10.51.0.0/24": field is immutable'),
        ([], "spec.cidrs: Invalid value: null: field is immutable"),
        (["10.50.0.0/24", "10.52.0.0/24"],
         f'spec.cidrs: Invalid value: {{"CIDRs":["10.50.0.0/24","10.52.0.0/24"]}}: {ONE_EACH}'),
    ):  # fmt: skip
        answer = await raw("PUT", f"{CIDRS}/x", cidr("x", *cidrs))
        assert (answer.status, answer.message) == (
            422,
            f'ServiceCIDR.networking.k8s.io "x" is invalid: {said}',
        )
    answer = await raw("PUT", f"{CIDRS}/x", cidr("x", "10.50.0.0/24", "fd00::/112"))
    assert answer.status == 200, answer.body
    answer = await raw("PUT", f"{CIDRS}/x", cidr("x", "10.50.0.0/24"))
    assert answer.message.endswith('spec.cidrs: Invalid value: ["10.50.0.0/24"]: field is immutable')


async def test_a_status_is_written_through_its_own_door_only(raw: Any) -> None:
    status = {"conditions": [{"type": "Ready", "status": "True", "reason": "", "message": "m",
                              "lastTransitionTime": "2026-01-01T00:00:00Z"}]}  # fmt: skip
    made = await raw.create(CIDRS, cidr("x", "10.50.0.0/24", status=status))
    assert made["status"] == {}
    changed = await raw("PUT", f"{CIDRS}/x", {**made, "status": status})
    assert changed.json["status"] == {}
    patch = {"metadata": {"labels": {"a": "b"}}, "spec": {"cidrs": ["10.51.0.0/24"]}, "status": status}
    answer = await raw("PATCH", f"{CIDRS}/x/status", patch, Content_Type=MERGE)
    assert answer.status == 200, answer.body
    assert (answer.json["status"], answer.json["spec"]) == (status, {"cidrs": ["10.50.0.0/24"]})
    assert "labels" not in answer.json["metadata"]
    assert "generation" not in answer.json["metadata"]


async def test_the_server_makes_its_own_range_ready_from_the_start_and_again_when_it_is_gone(
    raw: Any, api: Any
) -> None:
    found = await raw.get(f"{CIDRS}/kubernetes")
    assert found["spec"] == {"cidrs": ["10.96.0.0/16"]}
    (condition,) = found["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")
    assert condition["message"] == "Kubernetes default Service CIDR is ready"
    table = await raw("GET", CIDRS, Accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    assert table.json["rows"][0]["cells"][:2] == ["kubernetes", "10.96.0.0/16"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonsense", f'metadata.name: Invalid value: "nonsense": {NO_IP}'),
        ("10.0.0.0/24", f'metadata.name: Invalid value: "10.0.0.0/24": {NO_IP}'),
        ("10.0.0.09", 'metadata.name: Invalid value: "10.0.0.09": must not have leading 0s'),
        (
            "::ffff:1.2.3.4",
            'metadata.name: Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address',
        ),
        ("FD00::1", 'metadata.name: Invalid value: "FD00::1": must be in canonical form ("fd00::1")'),
        ("fd00:0:0::1", 'metadata.name: Invalid value: "fd00:0:0::1": must be in canonical form ("fd00::1")'),
    ],
)
async def test_an_ip_address_is_named_after_itself_canonically(raw: Any, name: str, said: str) -> None:
    answer = await raw("POST", ADDRESSES, address(name))
    assert (answer.status, answer.message) == (
        422,
        f'IPAddress.networking.k8s.io "{name}" is invalid: {said}',
    )


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        (None, "spec.parentRef: Required value"),
        ({}, "[spec.parentRef.resource: Required value, spec.parentRef.name: Required value]"),
        (
            {**PARENT, "resource": "a/b"},
            "spec.parentRef.resource: Invalid value: \"a/b\": may not contain '/'",
        ),
        ({**PARENT, "name": ".."}, "spec.parentRef.name: Invalid value: \"..\": may not be '..'"),
        (
            {**PARENT, "namespace": "a%b"},
            "spec.parentRef.namespace: Invalid value: \"a%b\": may not contain '%'",
        ),
        (
            {**PARENT, "group": "A"},
            'spec.parentRef.group: Invalid value: "A": a lowercase RFC 1123 subdomain',
        ),
    ],
)
async def test_an_ip_address_says_whose_it_is(raw: Any, parent: Json | None, said: str) -> None:
    answer = await raw("POST", ADDRESSES, address("192.0.2.1", parent))
    assert answer.status == 422
    assert answer.message.startswith(f'IPAddress.networking.k8s.io "192.0.2.1" is invalid: {said}')


async def test_an_ip_address_keeps_its_owner_and_may_be_labelled(raw: Any) -> None:
    made = await raw.create(ADDRESSES, address("192.0.2.1"))
    assert "generation" not in made["metadata"]
    other = await raw("PUT", f"{ADDRESSES}/192.0.2.1", address("192.0.2.1", {**PARENT, "name": "b"}))
    assert other.status == 422
    assert other.message.endswith(
        'spec.parentRef: Invalid value: {"Group":"","Resource":"services","Namespace":"default","Name":"b"}:'
        " field is immutable"
    )
    labelled = await raw(
        "PATCH", f"{ADDRESSES}/192.0.2.1", {"metadata": {"labels": {"a": "b"}}}, Content_Type=MERGE
    )
    assert labelled.json["metadata"]["labels"] == {"a": "b"}
    again = await raw("POST", ADDRESSES, address("192.0.2.1"))
    assert (again.status, again.reason) == (409, "AlreadyExists")
    missing = await raw("PUT", f"{ADDRESSES}/192.0.2.2", address("192.0.2.2"))
    assert missing.status == 404


async def test_nothing_is_added_to_the_base_of_a_generated_address(raw: Any) -> None:
    made = await raw.create(ADDRESSES, address("", generateName="192.0.2.9"))
    assert made["metadata"]["name"] == "192.0.2.9"
    again = await raw("POST", ADDRESSES, address("", generateName="192.0.2.9"))
    assert (again.status, again.reason) == (409, "AlreadyExists")


async def test_the_addresses_of_services_are_seen_and_watched(raw: Any, api: Any) -> None:
    made = await raw.create("/api/v1/namespaces/default/services",
                            {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})  # fmt: skip
    name = made["spec"]["clusterIP"]
    found = await raw.get(f"{ADDRESSES}/{name}")
    assert found["spec"]["parentRef"] == PARENT
    assert found["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }  # fmt: skip
    assert found["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    listed = await raw.get(f"{ADDRESSES}?labelSelector=ipaddress.kubernetes.io/ip-family=IPv4")
    assert {each["metadata"]["name"] for each in listed["items"]} == {"10.96.0.1", name}
    assert (await raw.get(f"{ADDRESSES}?fieldSelector=metadata.name={name}"))["items"] == [
        {field: value for field, value in found.items() if field not in ("kind", "apiVersion")}
    ]
    table = await raw("GET", f"{ADDRESSES}/{name}", Accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    assert table.json["rows"][0]["cells"] == [name, "services/default/a"]
    await raw("DELETE", "/api/v1/namespaces/default/services/a")
    assert (await raw("GET", f"{ADDRESSES}/{name}")).status == 404


async def test_collections_of_addresses_go_by_label(raw: Any) -> None:
    for last in (1, 2):
        await raw.create(ADDRESSES, address(f"192.0.2.{last}", labels={"which": str(last)}))
    await raw("DELETE", f"{ADDRESSES}?labelSelector=which=1")
    names = {each["metadata"]["name"] for each in (await raw.get(ADDRESSES))["items"]}
    assert names == {"10.96.0.1", "192.0.2.2"}
