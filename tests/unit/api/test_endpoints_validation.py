"""Endpoints and EndpointSlices: limits, addresses, hints, ports, and what an update may keep."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import ENDPOINT_SLICES, ENDPOINTS, Resource
from nodeport.api.validation import validate_create, validate_update, warnings

LOOPBACK = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
NO_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def made(resource: Resource, **fields: Any) -> JsonObject:
    obj = {"metadata": {"name": "a", "namespace": "default", **fields.pop("metadata", {})}, **fields}
    apply_defaults(resource, obj)
    return obj


def of_slice(kind: str = "IPv4", **fields: Any) -> JsonObject:
    return made(ENDPOINT_SLICES, addressType=kind, **fields)


def errors(resource: Resource, obj: JsonObject, old: JsonObject | None = None) -> list[str]:
    found = validate_create(resource, obj) if old is None else validate_update(resource, obj, old)
    return [str(error) for error in found]


def slice_errors(*endpoints: JsonObject, kind: str = "IPv4", **fields: Any) -> list[str]:
    return errors(ENDPOINT_SLICES, of_slice(kind, endpoints=list(endpoints), **fields))


@pytest.mark.parametrize(
    ("kind", "address", "complaints"),
    [
        ("IPv4", "10.1.1.1", []),
        ("IPv4", "10.1.1", [NO_IP]),
        ("IPv4", "010.1.1.1", ["must not have leading 0s"]),
        ("IPv4", "::ffff:1.2.3.4", ["must not be an IPv4-mapped IPv6 address"]),
        ("IPv4", "fd00::1", ["must be an IPv4 address"]),
        ("IPv4", "::1", ["must be an IPv4 address", LOOPBACK]),
        ("IPv4", "0.0.0.0", ["may not be unspecified (0.0.0.0)"]),
        ("IPv4", "169.254.1.1", ["may not be in the link-local range (169.254.0.0/16, fe80::/10)"]),
        ("IPv4", "224.0.0.5", ["may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"]),
        ("IPv6", "fd00::1", []),
        ("IPv6", "fd00:0:0::1", []),
        ("IPv6", "10.1.1.1", ["must be an IPv6 address"]),
        ("FQDN", "example.com", []),
        ("FQDN", "example.com.", []),
        ("FQDN", "example", ["should be a domain with at least two segments separated by dots"]),
    ],
)
def test_the_address_of_a_slice_must_fit_its_type(kind: str, address: str, complaints: list[str]) -> None:
    found = slice_errors({"addresses": [address]}, kind=kind)
    assert found == [f'endpoints[0].addresses[0]: Invalid value: "{address}": {why}' for why in complaints]


def test_an_empty_or_overlong_domain_is_told_once() -> None:
    assert slice_errors({"addresses": [""]}, kind="FQDN") == ["endpoints[0].addresses[0]: Required value"]
    label = "x" * 64
    [only] = slice_errors({"addresses": [f"{label}.com"]}, kind="FQDN")
    assert only == (f'endpoints[0].addresses[0]: Invalid value: "{label}": must be no more than 63 bytes')


def test_addresses_of_an_unknown_type_are_not_judged() -> None:
    assert slice_errors({"addresses": ["?"]}, kind="IP") == [
        'addressType: Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6"'
    ]


def test_the_limits_of_a_slice() -> None:
    one = {"addresses": ["10.1.1.1"]}
    assert slice_errors(*[one] * 1000) == []
    assert slice_errors(*[one] * 1001) == ["endpoints: Too many: 1001: must have at most 1000 items"]
    assert slice_errors({"addresses": ["10.1.1.1"] * 100}) == []
    assert slice_errors({"addresses": ["10.1.1.1"] * 101}) == [
        "endpoints[0].addresses: Too many: 101: must have at most 100 items"
    ]
    ports = [{"name": f"p{n}", "port": 80} for n in range(20001)]
    assert slice_errors(ports=ports[:20000]) == []
    assert slice_errors(ports=ports) == ["ports: Too many: 20001: must have at most 20000 items"]


def hinted(**hints: Any) -> list[str]:
    return slice_errors({"addresses": ["10.1.1.1"], "hints": hints})


def test_hints_name_up_to_eight_zones_and_nodes_each_once() -> None:
    names = [{"name": f"z{n}"} for n in range(9)]
    assert hinted(forZones=names[:8], forNodes=names[:8]) == []
    assert hinted(forZones=names, forNodes=names) == [
        "endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"
    ]
    assert hinted(forNodes=names) == ["endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items"]
    twice = [{"name": "a"}, {"name": "a"}]
    assert hinted(forZones=twice) == ['endpoints[0].hints.forZones[1].name: Duplicate value: "a"']
    assert hinted(forNodes=twice) == ['endpoints[0].hints.forNodes[1].name: Duplicate value: "a"']
    [zone] = hinted(forZones=[{"name": "not a zone"}])
    assert zone.startswith('endpoints[0].hints.forZones[0].name: Invalid value: "not a zone": a valid label')


def test_names_in_a_slice() -> None:
    found = slice_errors({"addresses": ["10.1.1.1"], "nodeName": "Node_1", "hostname": "a.b"})
    assert [error.split(":")[0] for error in found] == ["endpoints[0].nodeName", "endpoints[0].hostname"]
    assert found[1].endswith("must not contain dots")


def test_ports_of_a_slice() -> None:
    found = slice_errors(
        ports=[
            {"name": "a", "port": 1, "protocol": "tcp"},
            {"name": "a", "port": 70000},
            {"name": "A", "appProtocol": "not/a/name"},
        ]
    )
    assert found[0] == 'ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"'
    assert found[1] == 'ports[1].name: Duplicate value: "a"'
    assert [error.split(":")[0] for error in found[2:]] == ["ports[2].name", "ports[2].appProtocol"]


def test_the_type_of_a_slice_is_told_immutable_after_its_other_faults() -> None:
    old = of_slice("IPv4", endpoints=[{"addresses": ["10.1.1.1"]}])
    empty = of_slice("IPv6", endpoints=[])
    assert errors(ENDPOINT_SLICES, empty, old) == ['addressType: Invalid value: "IPv6": field is immutable']
    new = of_slice("IPv6", endpoints=[{"addresses": ["10.1.1.2"]}])
    assert errors(ENDPOINT_SLICES, new, old) == [
        'endpoints[0].addresses[0]: Invalid value: "10.1.1.2": must be an IPv6 address',
        'addressType: Invalid value: "IPv6": field is immutable',
    ]


def test_addresses_that_were_stored_before_todays_rules_may_stay() -> None:
    old = of_slice(endpoints=[{"addresses": ["010.1.1.1"]}])
    new = of_slice(endpoints=[{"addresses": ["010.1.1.1"]}, {"addresses": ["011.1.1.1"]}])
    assert errors(ENDPOINT_SLICES, new, old) == [
        'endpoints[1].addresses[0]: Invalid value: "011.1.1.1": must not have leading 0s'
    ]
    assert warnings(ENDPOINT_SLICES, old, old) == [
        'endpoints[0].addresses[0]: non-standard IP address "010.1.1.1" is invalid: use "10.1.1.1"'
    ]


def test_an_ipv6_address_in_another_form_is_taken_with_a_warning_unless_a_controller_wrote_it() -> None:
    found = of_slice("IPv6", endpoints=[{"addresses": ["fd00:0:0::1"]}])
    assert warnings(ENDPOINT_SLICES, found) == [
        'endpoints[0].addresses[0]: IPv6 address "fd00:0:0::1" should be in RFC 5952 canonical format ("fd00::1")'
    ]
    for manager in ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"):
        found["metadata"]["labels"] = {"endpointslice.kubernetes.io/managed-by": manager}
        assert warnings(ENDPOINT_SLICES, found) == []


def test_domains_are_deprecated_when_they_are_new() -> None:
    found = of_slice("FQDN", endpoints=[])
    assert warnings(ENDPOINT_SLICES, found) == ["spec.addressType: FQDN endpoints are deprecated"]
    assert warnings(ENDPOINT_SLICES, found, found) == []


def endpoints(*addresses: JsonObject, ports: list[JsonObject] | None = None, **subset: Any) -> JsonObject:
    return made(ENDPOINTS, subsets=[{"addresses": list(addresses), "ports": ports or [], **subset}])


def test_the_address_of_endpoints_is_judged_like_an_external_ip() -> None:
    assert errors(ENDPOINTS, endpoints({"ip": "10.1.1.1", "nodeName": "n", "hostname": "h"})) == []
    assert errors(ENDPOINTS, endpoints({"ip": "nonsense"})) == [
        f'subsets[0].addresses[0].ip: Invalid value: "nonsense": {NO_IP}',
        'subsets[0].addresses[0].ip: Invalid value: "nonsense": must be a valid IP address',
    ]
    assert errors(ENDPOINTS, endpoints(notReadyAddresses=[{"ip": "127.0.0.1"}])) == [
        f'subsets[0].notReadyAddresses[0].ip: Invalid value: "127.0.0.1": {LOOPBACK}'
    ]


def test_several_ports_of_endpoints_need_names_and_real_protocols() -> None:
    ports = [{"name": "a", "port": 1}, {"port": 2, "protocol": "X"}]
    assert errors(ENDPOINTS, endpoints({"ip": "10.1.1.1"}, ports=ports)) == [
        "subsets[0].ports[1].name: Required value",
        'subsets[0].ports[1].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"',
    ]


def test_endpoints_keep_old_addresses_and_are_not_judged_anew_when_only_labels_change() -> None:
    old = endpoints({"ip": "010.1.1.1"})
    relabelled = deep_copy(old) | {"metadata": {**old["metadata"], "labels": {"a": "b"}}}
    assert errors(ENDPOINTS, relabelled, old) == []
    grown = endpoints({"ip": "010.1.1.1"}, {"ip": "011.1.1.1"})
    assert errors(ENDPOINTS, grown, old) == [
        'subsets[0].addresses[1].ip: Invalid value: "011.1.1.1": must not have leading 0s'
    ]


def test_endpoints_with_an_ipv6_address_in_another_form_are_taken_with_a_warning() -> None:
    found = endpoints({"ip": "fd00:0::1"}, notReadyAddresses=[{"ip": "fd00:0::2"}])
    assert warnings(ENDPOINTS, found) == [
        f'subsets[0].{field}[0].ip: IPv6 address "fd00:0::{n}" should be in RFC 5952 canonical format ("fd00::{n}")'
        for n, field in ((1, "addresses"), (2, "notReadyAddresses"))
    ]
    found["metadata"]["labels"] = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
    assert warnings(ENDPOINTS, found) == []
