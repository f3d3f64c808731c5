"""What a Service may not be, to the letter: field, kind of fault, text, order."""

from __future__ import annotations

from typing import Any

import pytest

from nodeport.api import services
from nodeport.api.defaulting import apply_defaults
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import SERVICES
from nodeport.api.validation import validate_create, validate_status_update, validate_update, warnings

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LB = "may only be used when `type` is 'LoadBalancer'"


def service(name: str = "web", meta: JsonObject | None = None, **spec: Any) -> JsonObject:
    spec.setdefault("ports", [{"port": 80}])
    obj = {"metadata": {"name": name, "namespace": "default", **(meta or {})}, "spec": spec}
    apply_defaults(SERVICES, obj)
    services.normalize_cluster_ips(obj)
    return obj


def errors(obj: JsonObject) -> list[str]:
    return [str(error) for error in validate_create(SERVICES, obj)]


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_ordinary_services_are_fine(kind: str) -> None:
    assert errors(service(type=kind, selector={"app": "web"})) == []


def test_headless_and_external_name_services_need_no_ports() -> None:
    assert errors(service(ports=[], clusterIP="None")) == []
    assert errors(service(ports=[], type="ExternalName", externalName="a.example.")) == []
    assert errors(service(ports=[])) == ["spec.ports: Required value"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("1web", None), ("a" * 63, None), ("Web", LABEL), ("a.b", "must not contain dots"), ("-a", LABEL)],
)
def test_names_are_dns_labels_that_may_begin_with_a_digit(name: str, why: str | None) -> None:
    assert errors(service(name)) == ([f'metadata.name: Invalid value: "{name}": {why}'] if why else [])


def test_a_name_is_needed_and_may_not_be_too_long() -> None:
    assert errors(service("")) == ["metadata.name: Required value: name or generateName is required"]
    assert errors(service("a" * 64)) == [
        f'metadata.name: Invalid value: "{"a" * 64}": must be no more than 63 bytes',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "NodePort", "clusterIP": "None"},
         ['spec.clusterIPs[0]: Invalid value: "None": may not be set to \'None\' for NodePort services']),
        ({"type": "LoadBalancer", "clusterIP": "None"},
         ['spec.clusterIPs[0]: Invalid value: "None": may not be set to \'None\' for LoadBalancer services']),
        ({"type": "ExternalName"}, ["spec.externalName: Required value"]),
        ({"type": "ExternalName", "externalName": "a.b", "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"]},
         ["spec.clusterIPs: Forbidden: may not be set for ExternalName services",
          "spec.ipFamilies: Forbidden: may not be set for ExternalName services"]),
        ({"ports": [{"port": 80}, {"port": 81, "name": "b"}]}, ["spec.ports[0].name: Required value"]),
        ({"ports": [{"port": 80, "name": "b"}, {"port": 81, "name": "b"}]},
         ['spec.ports[1].name: Duplicate value: "b"']),
        ({"ports": [{"port": 0, "targetPort": 1}]},
         ["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"]),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]},
         ['spec.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"']),
        ({"ports": [{"port": 80, "targetPort": "a-very-long-name"}]},
         ['spec.ports[0].targetPort: Invalid value: "a-very-long-name": must be no more than 15 bytes']),
        ({"ports": [{"port": 80, "nodePort": 30080}]},
         ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]),
        ({"type": "NodePort", "ports": [{"port": 80, "name": "a", "nodePort": 1}, {"port": 81, "name": "b", "nodePort": 1}]},
         ["spec.ports[1].nodePort: Duplicate value: 1"]),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]},
         ['spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,'
          '"NodePort":0}']),
        ({"sessionAffinity": "Cookie"},
         ['spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"']),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}},
         ["spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401:"
          " must be greater than 0 and less than 86400"]),
        ({"type": "Magic"},
         ['spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer",'
          ' "NodePort"']),
        ({"externalIPs": ["1.2.3.04", "0.0.0.0", "127.1.1.1", "169.254.1.1", "224.0.0.9", "::ffff:1.2.3.4", "x", "::1"]},
         ['spec.externalIPs[0]: Invalid value: "1.2.3.04": must not have leading 0s',
          'spec.externalIPs[1]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)',
          'spec.externalIPs[2]: Invalid value: "127.1.1.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
          'spec.externalIPs[3]: Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16,'
          ' fe80::/10)',
          'spec.externalIPs[4]: Invalid value: "224.0.0.9": may not be in the link-local multicast range'
          ' (224.0.0.0/24, ff02::/10)',
          'spec.externalIPs[5]: Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address',
          'spec.externalIPs[6]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
          'spec.externalIPs[7]: Invalid value: "::1": may not be in the loopback range (127.0.0.0/8, ::1/128)']),
        ({"loadBalancerSourceRanges": ["10.0.0.0/8"]}, [f"spec.LoadBalancerSourceRanges: Forbidden: {LB}"]),
        ({"type": "LoadBalancer", "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "10.0.0.1/8", "10.0.0.0/08", "10.0.0.0"]},
         ['spec.LoadBalancerSourceRanges[1]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length',
          'spec.LoadBalancerSourceRanges[2]: Invalid value: "10.0.0.0/08": must not have leading 0s in IP or prefix length',
          'spec.LoadBalancerSourceRanges[3]: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or'
          ' 2001:db8::/64)']),
        ({"allocateLoadBalancerNodePorts": False}, [f"spec.allocateLoadBalancerNodePorts: Forbidden: {LB}"]),
        ({"loadBalancerClass": "a/b"}, [f"spec.loadBalancerClass: Forbidden: {LB}"]),
        ({"externalTrafficPolicy": "Local"},
         ['spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services']),
        ({"type": "NodePort", "externalTrafficPolicy": "Near", "internalTrafficPolicy": "Far"},
         ['spec.externalTrafficPolicy: Unsupported value: "Near": supported values: "Cluster", "Local"',
          'spec.internalTrafficPolicy: Unsupported value: "Far": supported values: "Cluster", "Local"']),
        ({"type": "NodePort", "healthCheckNodePort": 30000},
         ["spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and"
          " `externalTrafficPolicy` is 'Local'"]),
        ({"trafficDistribution": "Any"},
         ['spec.trafficDistribution: Unsupported value: "Any": supported values: "PreferClose", "PreferSameZone",'
          ' "PreferSameNode"']),
        ({"clusterIPs": ["10.0.0.1"]},
         ['spec.clusterIPs: Invalid value: ["10.0.0.1"]: must be empty when `clusterIP` is not specified']),
        ({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]},
         ['spec.clusterIPs: Invalid value: ["10.0.0.2"]: first value must match `clusterIP`']),
        ({"clusterIP": "None", "clusterIPs": ["None", "10.0.0.1"]},
         ['spec.clusterIPs: Invalid value: ["None","10.0.0.1"]: \'None\' must be the first and only value']),
        ({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]},
         ['spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family']),
        ({"clusterIP": "fd00::1", "ipFamilies": ["IPv4"]},
         ['spec.clusterIPs[0]: Invalid value: "fd00::1": expected an IPv4 value as indicated by `ipFamilies[0]`']),
        ({"ipFamilies": ["IPv4", "IPv4", "IPv5"], "ipFamilyPolicy": "All"},
         ['spec.ipFamilies[1]: Duplicate value: "IPv4"',
          'spec.ipFamilies[2]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"',
          'spec.ipFamilyPolicy: Unsupported value: "All": supported values: "PreferDualStack", "RequireDualStack",'
          ' "SingleStack"']),
    ],
)  # fmt: skip
def test_each_fault_has_kubernetes_own_field_and_words(spec: JsonObject, expected: list[str]) -> None:
    assert errors(service(**deep_copy(spec))) == expected


def test_selectors_labels_and_annotations_are_checked() -> None:
    obj = service(
        selector={"a b": "ok", "fine": "not ok"}, meta={"labels": {"x/y/z": ""}, "annotations": {"UP/ok": ""}}
    )
    found = errors(obj)
    assert found[0].startswith('metadata.labels: Invalid value: "x/y/z": a valid label key must consist of')
    assert found[1].startswith('spec.selector: Invalid value: "a b": name part must consist of alphanumeric')
    assert found[2].startswith(
        'spec.selector: Invalid value: "not ok": a valid label must be an empty string or'
    )
    assert len(found) == 3
    big = service(meta={"annotations": {"a": "x" * 262_144}})
    assert errors(big) == ["metadata.annotations: Too long: may not be more than 262144 bytes"]


def test_topology_annotations_must_agree() -> None:
    hints, mode = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
    assert errors(service(meta={"annotations": {hints: "Auto", mode: "Disabled"}})) == [
        f'metadata.annotations[{mode}]: Invalid value: "Disabled": must match annotations[{hints}] when both are specified'
    ]


def stored(**spec: Any) -> JsonObject:
    return service(
        meta={"uid": "u1"}, clusterIP="10.0.0.1", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack", **spec
    )


def update_errors(new: JsonObject, old: JsonObject) -> list[str]:
    return [str(error) for error in validate_update(SERVICES, new, old)]


def test_an_unchanged_service_may_be_written_again() -> None:
    assert update_errors(stored(type="NodePort"), stored(type="NodePort")) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]},
         ['spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set']),
        ({"clusterIP": "None", "clusterIPs": ["None"]},
         ['spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set']),
        ({"clusterIP": "", "clusterIPs": []},
         ["spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset"]),
        ({"ipFamilies": ["IPv6"]},
         ['spec.ipFamilies[0]: Invalid value: ["IPv6"]: may not change once set',
          'spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`']),
    ],
)  # fmt: skip
def test_addresses_and_families_stay(change: JsonObject, expected: list[str]) -> None:
    new = stored()
    new["spec"].update(change)
    assert update_errors(new, stored()) == expected


def test_becoming_an_external_name_may_release_the_address() -> None:
    new = service(meta={"uid": "u1"}, type="ExternalName", externalName="a.b")
    assert update_errors(new, stored()) == []


def test_releasing_the_second_address_needs_single_stack() -> None:
    old = stored()
    old["spec"] |= {
        "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
    }  # fmt: skip
    new = stored()
    assert update_errors(new, old) == []
    new["spec"]["ipFamilyPolicy"] = "PreferDualStack"
    assert update_errors(new, old) == [
        "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary"
        f" {what}"
        for what in ("clusterIP", "ipFamily")
    ]


def test_load_balancer_class_and_health_port_are_fixed() -> None:
    lb = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    old = stored(**lb, healthCheckNodePort=31000, loadBalancerClass="x/a")
    new = stored(**lb, healthCheckNodePort=31001, loadBalancerClass="x/b")
    assert update_errors(new, old) == [
        'spec.loadBalancerClass: Invalid value: "x/b": may not change once set',
        "spec.healthCheckNodePort: Forbidden: field is immutable",
    ]


def test_names_and_uids_are_immutable() -> None:
    new = stored()
    new["metadata"] |= {"name": "other", "uid": "u2"}
    assert update_errors(new, stored()) == 2 * [
        'metadata.name: Invalid value: "other": field is immutable', 'metadata.uid: Invalid value: "u2": field is immutable',
    ]  # fmt: skip


def test_no_finalizer_joins_while_deleting() -> None:
    old = stored()
    old["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}
    new = deep_copy(old)
    new["metadata"]["finalizers"] = ["a/b", "c/d"]
    assert update_errors(new, old) == 2 * [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new"
        ' finalizers []string{"c/d"}'
    ]


def test_an_address_that_was_stored_before_the_rule_may_stay() -> None:
    old, new = stored(externalIPs=["1.2.3.04"]), stored(externalIPs=["1.2.3.04"])
    assert update_errors(new, old) == []
    new["spec"]["externalIPs"] = ["1.2.3.04", "1.2.3.05"]
    assert update_errors(new, old) == [
        'spec.externalIPs[1]: Invalid value: "1.2.3.05": must not have leading 0s'
    ]


def test_load_balancer_status_is_checked() -> None:
    def status_errors(kind: str, *ingress: JsonObject) -> list[str]:
        new = stored(type=kind) | {"status": {"loadBalancer": {"ingress": list(ingress)}}}
        return [str(error) for error in validate_status_update(SERVICES, new, stored(type=kind))]

    path = "status.loadBalancer.ingress"
    assert status_errors("LoadBalancer", {"ip": "1.1.1.1", "ipMode": "VIP"}, {"hostname": "a.b"}) == []
    assert status_errors("NodePort", {"ip": "1.1.1.1"}) == [
        f"{path}: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
    ]
    assert status_errors("LoadBalancer", {"ip": "1.1.1.1"}, {"hostname": "1.1.1.1", "ipMode": "VIP"},
                         {"ip": "2.2.2.2", "ipMode": "X"}) == [
        f"{path}[0].ipMode: Required value: must be specified when `ip` is set",
        f"{path}[1].ipMode: Forbidden: may not be specified when `ip` is not set",
        f'{path}[1].hostname: Invalid value: "1.1.1.1": must be a DNS name, not an IP address',
        f'{path}[2].ipMode: Unsupported value: "X": supported values: "Proxy", "VIP"',
    ]  # fmt: skip


def test_warnings_tell_what_is_ignored() -> None:
    headless = service(
        clusterIP="None", externalIPs=["1.1.1.1"], loadBalancerIP="2.2.2.2", sessionAffinity="ClientIP"
    )
    assert warnings(SERVICES, headless, None) == [
        "spec.loadBalancerIP is ignored for headless services", "spec.externalIPs is ignored for headless services",
        "spec.SessionAffinity is ignored for headless services",
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
    ]  # fmt: skip
    assert warnings(SERVICES, service(externalName="a.b", trafficDistribution="PreferClose"), None) == [
        'spec.externalName is ignored when spec.type is not "ExternalName"',
        'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
    ]
    assert warnings(SERVICES, service(clusterIP="FD00::0001"), None) == [
        'spec.clusterIPs[0]: IPv6 address "FD00::0001" should be in RFC 5952 canonical format ("fd00::1")'
    ]
    assert warnings(SERVICES, service(), None) == []
