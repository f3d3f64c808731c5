"""Defaults, changes of type, warnings, node ports and status: sections 1.2, 1.6, 1.7, 2.2 to 2.5, and the rest of 1.5."""

from __future__ import annotations

from typing import Any

from unit.apiserver.semantics.harness import ABSENT, ANY, Create, Update, create, update

D, T, W, N, V = "defaults/", "types/", "warnings/", "nodePort/", "validation/"
LB, NP, CIP = ({"type": kind} for kind in ("LoadBalancer", "NodePort", "ClusterIP"))
EN: dict[str, Any] = {"type": "ExternalName", "externalName": "web.example.com"}
LOCAL = {"externalTrafficPolicy": "Local"}
FIXED_NP = {**NP, "ports": [{"port": 80, "nodePort": 30701}]}
IGNORED = ('spec.externalName is ignored when spec.type is not "ExternalName"',)
DEPRECATED = "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
ETP, ITP, HCNP, NODE_PORT = (
    "spec.externalTrafficPolicy", "spec.internalTrafficPolicy", "spec.healthCheckNodePort", "spec.ports.0.nodePort",
)  # fmt: skip
LB_ONLY = "may only be used when `type` is 'LoadBalancer'"


def two(first: dict[str, Any], second: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {**NP, **spec, "ports": [{"name": "a", **first}, {"name": "b", **second}]}


def defaults() -> list[Create]:
    seconds = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    ips = {"externalIPs": ["192.0.2.1"]}
    return [
        create(D + "type", "unset", {}, fields={"spec.type": "ClusterIP"}),
        create(D + "sessionAffinity", "unset", {}, fields={"spec.sessionAffinity": "None", "spec.sessionAffinityConfig": ABSENT}),
        create(D + "sessionAffinity", "cleared", {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, fields={"spec.sessionAffinityConfig": ABSENT}),
        create(D + "affinity-timeout", "all-missing", {"sessionAffinity": "ClientIP"}, fields={seconds: 10800}),
        create(D + "affinity-timeout", "empty", {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {}}, fields={seconds: 10800}),
        create(D + "affinity-timeout", "empty-client", {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}, fields={seconds: 10800}),
        create(D + "protocol", "unset", {}, fields={"spec.ports.0.protocol": "TCP"}),
        create(D + "targetPort", "unset", {}, fields={"spec.ports.0.targetPort": 80}),
        create(D + "targetPort", "zero", {"ports": [{"port": 80, "targetPort": 0}]}, fields={"spec.ports.0.targetPort": 80}),
        create(D + "targetPort", "empty", {"ports": [{"port": 80, "targetPort": ""}]}, fields={"spec.ports.0.targetPort": 80}),
        *(create(D + "externalTrafficPolicy", kind["type"], kind, fields={ETP: "Cluster"}) for kind in (NP, LB)),
        create(D + "externalTrafficPolicy", "external-ips", ips, fields={ETP: "Cluster"}, warnings=(DEPRECATED,)),
        create(D + "externalTrafficPolicy", "clusterip", {}, fields={ETP: ABSENT}),
        create(D + "externalTrafficPolicy", "external-name", EN, fields={ETP: ABSENT}),
        *(create(D + "internalTrafficPolicy", kind["type"], kind, fields={ITP: "Cluster"}) for kind in (CIP, NP, LB)),
        create(D + "internalTrafficPolicy", "external-name", EN, fields={ITP: ABSENT}),
        create(D + "internalTrafficPolicy", "external-name-asked", {**EN, "internalTrafficPolicy": "Local"}, fields={ITP: ABSENT}),
        create(D + "internalTrafficPolicy", "external-name-bad", {**EN, "internalTrafficPolicy": "Far"},
               'spec.internalTrafficPolicy: Unsupported value: "Far": supported values: "Cluster", "Local"'),
        create(D + "allocateLoadBalancerNodePorts", "lb", LB, fields={"spec.allocateLoadBalancerNodePorts": True}),
        *(create(D + "allocateLoadBalancerNodePorts", kind["type"], kind, fields={"spec.allocateLoadBalancerNodePorts": ABSENT}) for kind in (CIP, NP)),
        create(D + "ipFamilies", "unset", {}, fields={"spec.ipFamilies": ["IPv4"], "spec.ipFamilyPolicy": "SingleStack", "status": {"loadBalancer": {}}}),
    ]  # fmt: skip


def type_changes() -> list[Update]:
    lb_local = {**LB, **LOCAL}
    gone = {
        "spec.clusterIP": ABSENT,
        "spec.clusterIPs": ABSENT,
        "spec.ipFamilies": ABSENT,
        "spec.ipFamilyPolicy": ABSENT,
    }
    hcnp = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
    ingress = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
    return [
        *(update(T + "to-external-name", kind["type"], kind, EN, fields=gone) for kind in (CIP, NP, LB)),
        update(T + "to-external-name", "itp", {}, EN, fields={ITP: ABSENT}),
        update(T + "to-external-name", "headless", {"clusterIP": "None"}, EN, fields=gone),
        update(T + "drops-nodePorts", "to-clusterip", FIXED_NP, CIP, fields={NODE_PORT: ABSENT, "spec.clusterIP": ANY}),
        update(T + "drops-nodePorts", "to-external-name", FIXED_NP, EN, fields={NODE_PORT: ABSENT}),
        update(T + "drops-nodePorts", "lb-to-clusterip", {**LB, "ports": FIXED_NP["ports"]}, CIP, fields={NODE_PORT: ABSENT, ETP: ABSENT}),
        update(T + "drops-nodePorts", "some", two({"port": 80, "nodePort": 30701}, {"port": 81, "nodePort": 30702}),
               {**CIP, "ports": [{"name": "a", "port": 80, "nodePort": 30701}]}, fields={NODE_PORT: ABSENT, "spec.ports.1": ABSENT}),
        update(T + "drops-nodePorts", "put", FIXED_NP, {**CIP, "ports": FIXED_NP["ports"]}, put=True, fields={NODE_PORT: ABSENT}),
        update(T + "changed-too", "nodePorts", FIXED_NP, {**CIP, "ports": [{"port": 80, "nodePort": 30702}]},
               "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
        update(T + "changed-too", "hcnp", {**lb_local, "healthCheckNodePort": 30703}, {**NP, "healthCheckNodePort": 30704}, f"spec.healthCheckNodePort: Invalid value: 30704: {hcnp}"),
        update(T + "changed-too", "allocate", LB, {**NP, "allocateLoadBalancerNodePorts": False}, f"spec.allocateLoadBalancerNodePorts: Forbidden: {LB_ONLY}"),
        update(T + "changed-too", "class", {**LB, "loadBalancerClass": "a/b"}, {**NP, "loadBalancerClass": "a/c"}, *(f"spec.loadBalancerClass: Forbidden: {LB_ONLY}",) * 2),
        update(T + "changed-too", "etp", NP, {**CIP, **LOCAL}, 'spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services'),
        *(update(T + "drops-hcnp", f"to-{kind['type']}", {**lb_local, "healthCheckNodePort": 30703}, kind, fields={HCNP: ABSENT}) for kind in (CIP, NP, EN)),
        update(T + "drops-hcnp", "to-cluster", {**lb_local, "healthCheckNodePort": 30703}, {"externalTrafficPolicy": "Cluster"}, fields={HCNP: ABSENT}),
        *(update(T + "drops-lb-fields", f"to-{kind['type']}", {**LB, "loadBalancerClass": "a/b"}, kind,
                 fields={"spec.allocateLoadBalancerNodePorts": ABSENT, "spec.loadBalancerClass": ABSENT}) for kind in (CIP, NP, EN)),
        update(T + "drops-etp", "nodeport", NP, CIP, fields={ETP: ABSENT}),
        update(T + "drops-etp", "external-ips", {"externalIPs": ["192.0.2.1"]}, {"externalIPs": None}, fields={ETP: ABSENT}),
        update(T + "to-nodePort", "clusterip", {}, NP, fields={NODE_PORT: ANY, ETP: "Cluster"}),
        update(T + "to-nodePort", "asked", {}, FIXED_NP, fields={NODE_PORT: 30701}),
        update(T + "to-nodePort", "external-name", EN, NP, fields={NODE_PORT: ANY, "spec.clusterIP": ANY, ITP: "Cluster"}, warnings=IGNORED),
        update(T + "to-nodePort", "external-name-to-clusterip", EN, CIP, fields={"spec.clusterIP": ANY, "spec.externalName": "web.example.com"}, warnings=IGNORED),
        update(T + "nodePort-to-lb", "keeps", FIXED_NP, LB, fields={NODE_PORT: 30701, "spec.allocateLoadBalancerNodePorts": True}),
        update(T + "nodePort-to-lb", "back", {**LB, "ports": FIXED_NP["ports"]}, NP, fields={NODE_PORT: 30701}),
        update(T + "nodePort-to-lb", "allocate-off", {**LB, "ports": FIXED_NP["ports"]}, {"allocateLoadBalancerNodePorts": False}, fields={NODE_PORT: 30701}),
        update(T + "keeps-others", "all", {"selector": {"a": "b"}, "externalIPs": ["192.0.2.1"]}, EN,
               fields={"spec.selector": {"a": "b"}, "spec.externalIPs": ["192.0.2.1"]},
               warnings=('spec.externalIPs is ignored when spec.type is "ExternalName"', DEPRECATED)),
        update(T + "load-balancer-ip", "kept", {**LB, "loadBalancerIP": "192.0.2.9"}, CIP, fields={"spec.loadBalancerIP": "192.0.2.9"}),
        update("order/status-keeps-spec", "spec", {}, {"spec": {"type": "NodePort"}, "status": {}}, subresource="status", fields={"spec.type": "ClusterIP"}),
        update("order/status-keeps-spec", "metadata", {}, {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}, subresource="status",
               fields={"metadata.labels": {"a": "b"}, "metadata.annotations": {"c": "d"}}),
        update("order/main-keeps-status", "patch", LB, {"status": ingress}, fields={"status": {"loadBalancer": {}}}),
        update("order/no-generation", "change", {}, {"ports": [{"port": 81}]}, fields={"metadata.generation": ABSENT, "spec.ports.0.port": 81}),
    ]  # fmt: skip


def warned() -> list[Create]:
    hints, mode = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
    headless = {"clusterIP": "None"}
    ranges = 'spec.loadBalancerSourceRanges[0]: IPv6 CIDR value "FD00::/8" should be in RFC 5952 canonical format ("fd00::/8")'
    return [
        create(W + "hints", "deprecated", {}, meta={"annotations": {hints: "Auto"}}, warnings=(f"annotation {hints} is deprecated, please use {mode} instead",)),
        create(W + "headless", "lb-ip", {**headless, "loadBalancerIP": "192.0.2.9"}, warnings=("spec.loadBalancerIP is ignored for headless services",)),
        create(W + "headless", "external-ips", {**headless, "externalIPs": ["192.0.2.1"]}, warnings=("spec.externalIPs is ignored for headless services", DEPRECATED)),
        create(W + "headless", "affinity", {**headless, "sessionAffinity": "ClientIP"}, warnings=("spec.SessionAffinity is ignored for headless services",)),
        create(W + "externalIPs", "clusterip", {"externalIPs": ["192.0.2.1"]}, warnings=(DEPRECATED,)),
        create(W + "externalIPs-external-name", "both", {**EN, "externalIPs": ["192.0.2.1"]}, warnings=('spec.externalIPs is ignored when spec.type is "ExternalName"', DEPRECATED)),
        create(W + "externalName", "clusterip", {"externalName": "a.b"}, warnings=IGNORED),
        create(W + "externalName", "anything", {"externalName": "not a name"}, warnings=IGNORED),
        create(W + "preferClose", "deprecated", {"trafficDistribution": "PreferClose"}, warnings=('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',)),
        create(W + "canonical", "clusterIP", {"clusterIP": "FD00:96::0:9"}, cluster="v6", fields={"spec.clusterIP": "FD00:96::0:9"},
               warnings=('spec.clusterIPs[0]: IPv6 address "FD00:96::0:9" should be in RFC 5952 canonical format ("fd00:96::9")',)),
        create(W + "canonical", "externalIPs", {"externalIPs": ["2001:DB8::1"]},
               warnings=('spec.externalIPs[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")', DEPRECATED)),
        create(W + "canonical", "lb-ip", {**LB, "loadBalancerIP": "2001:DB8::1"},
               warnings=('spec.loadBalancerIP: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")',)),
        create(W + "canonical", "ranges", {**LB, "loadBalancerSourceRanges": ["FD00::/8"]}, warnings=(ranges,)),
        create(W + "nonstandard", "lb-ip", {**LB, "loadBalancerIP": "192.0.2.09"},
               warnings=('spec.loadBalancerIP: non-standard IP address "192.0.2.09" is invalid: use "192.0.2.9"',)),
    ]  # fmt: skip


def node_ports() -> list[Create]:
    taken, out = (
        "provided port is already allocated",
        "provided port is not in the valid range. The range of valid ports is 30000-32767",
    )
    udp = {"port": 53, "protocol": "UDP"}
    return [
        create(N + "share", "asked-first", two({"port": 53, "nodePort": 30753}, udp), fields={"spec.ports.0.nodePort": 30753, "spec.ports.1.nodePort": 30753}),
        create(N + "share", "asked-second", two({"port": 53}, {**udp, "nodePort": 30753}), fields={"spec.ports.0.nodePort": 30753, "spec.ports.1.nodePort": 30753}),
        create(N + "same-number", "same-port", two({"port": 53, "nodePort": 30753}, {**udp, "nodePort": 30753}), fields={"spec.ports.1.nodePort": 30753}),
        create(N + "same-number", "two-numbers", two({"port": 53, "nodePort": 30753}, {**udp, "nodePort": 30754}),
               fields={"spec.ports.0.nodePort": 30753, "spec.ports.1.nodePort": 30754}),
        create(N + "different-port", "refused", two({"port": 53, "nodePort": 30753}, {"port": 54, "protocol": "UDP", "nodePort": 30753}),
               f"spec.ports[1].nodePort: Invalid value: 30753: {taken}"),
        *(create(N + "range", str(bad), {**NP, "ports": [{"port": 80, "nodePort": bad}]}, f"spec.ports[0].nodePort: Invalid value: {bad}: {out}") for bad in (29999, 32768, 80, -1, 70000)),
        create(N + "range", "second", two({"port": 80}, {"port": 81, "nodePort": 1}), f"spec.ports[1].nodePort: Invalid value: 1: {out}"),
        *(create(N + "range", f"good-{good}", {**NP, "ports": [{"port": 80, "nodePort": good}]}, fields={NODE_PORT: good}) for good in (30000, 30085, 30086, 32767)),
        create(N + "range", "lb", {**LB, "ports": [{"port": 80, "nodePort": 1}]}, f"spec.ports[0].nodePort: Invalid value: 1: {out}"),
        create("order/nodePort-before-validation", "alone", {**NP, "ports": [{"port": 0, "nodePort": 1}], "sessionAffinity": "x"}, f"spec.ports[0].nodePort: Invalid value: 1: {out}"),
        create("order/families-before-validation", "alone", {"ipFamilies": ["IPv6"], "ports": [{"port": 0}], "sessionAffinity": "x"},
               'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        create(N + "hcnp", "any", {**LB, **LOCAL}, fields={HCNP: ANY}),
        create(N + "hcnp", "asked", {**LB, **LOCAL, "healthCheckNodePort": 30799}, fields={HCNP: 30799}),
        create(N + "hcnp", "same-as-nodePort", {**LB, **LOCAL, "healthCheckNodePort": 30799, "ports": [{"port": 80, "nodePort": 30799}]},
               refused=(500, "InternalError", "Internal error occurred: failed to allocate requested HealthCheck NodePort 30799: provided port is already allocated")),
        create(N + "hcnp", "out-of-range", {**LB, **LOCAL, "healthCheckNodePort": 1},
               refused=(500, "InternalError", f"Internal error occurred: failed to allocate requested HealthCheck NodePort 1: {out}")),
        create(N + "lb-without", "none", {**LB, "allocateLoadBalancerNodePorts": False}, fields={NODE_PORT: ABSENT}),
        create(N + "lb-without", "asked", {**LB, "allocateLoadBalancerNodePorts": False, "ports": [{"port": 80, "nodePort": 30798}]}, fields={NODE_PORT: 30798}),
        create(N + "lb-without", "asked-second", two({"port": 53}, {**udp, "nodePort": 30798}, type="LoadBalancer", allocateLoadBalancerNodePorts=False),
               fields={"spec.ports.0.nodePort": ABSENT, "spec.ports.1.nodePort": 30798}),
        create(N + "dry-run", "any", two({"port": 80}, {"port": 81}), query="?dryRun=All", fields={"spec.ports.0.nodePort": 32769, "spec.ports.1.nodePort": 32770}),
        create(N + "dry-run", "beside-asked", two({"port": 80, "nodePort": 30707}, {"port": 81}), query="?dryRun=All", fields={"spec.ports.0.nodePort": 30707, "spec.ports.1.nodePort": 30708}),
        create(N + "dry-run", "range-unchecked", {**NP, "ports": [{"port": 80, "nodePort": 40000}]}, query="?dryRun=All", fields={NODE_PORT: 40000}),
        create(N + "dry-run", "twice", two({"port": 80, "nodePort": 30707}, {"port": 81, "nodePort": 30707}), f"spec.ports[1].nodePort: Invalid value: 30707: {taken}", query="?dryRun=All"),
        create(N + "dry-run", "hcnp", {**LB, **LOCAL}, query="?dryRun=All", fields={NODE_PORT: 32769, HCNP: 32770}),
    ]  # fmt: skip


def port_changes() -> list[Update]:
    udp = {"port": 53, "protocol": "UDP"}
    shared = two({"port": 53, "nodePort": 30753}, {**udp, "nodePort": 30753})
    return [
        update(N + "reapply", "one", {**NP}, NP, put=False, fields={NODE_PORT: ANY}),
        update(N + "reapply", "put", FIXED_NP, {**NP, "ports": [{"port": 80}]}, put=True, fields={NODE_PORT: 30701}),
        update(N + "reapply", "other-port-same-name", FIXED_NP, {**NP, "ports": [{"port": 81}]}, put=True, fields={NODE_PORT: 30701, "spec.ports.0.port": 81}),
        update(N + "reapply", "shared", shared, two({"port": 53}, udp), put=True, fields={"spec.ports.0.nodePort": 30753, "spec.ports.1.nodePort": 30753}),
        update(N + "reapply", "order", two({"port": 80, "nodePort": 30701}, {"port": 81, "nodePort": 30702}),
               {**NP, "ports": [{"name": "b", "port": 81}, {"name": "a", "port": 80}]}, put=True, fields={"spec.ports.0.nodePort": 30702, "spec.ports.1.nodePort": 30701}),
        update(N + "reapply", "number-moved", two({"port": 80, "nodePort": 30701}, {"port": 81, "nodePort": 30702}),
               two({"port": 80}, {"port": 81, "nodePort": 30701}), put=True, fields={"spec.ports.1.nodePort": 30701, "spec.ports.0.nodePort": ANY}),
        update(N + "reapply", "lb-without", {**LB, "allocateLoadBalancerNodePorts": False, "ports": FIXED_NP["ports"]},
               {**LB, "allocateLoadBalancerNodePorts": False, "ports": [{"port": 80}]}, put=True, fields={NODE_PORT: 30701}),
        update(N + "reapply", "hcnp", {**LB, **LOCAL, "healthCheckNodePort": 30703}, {**LB, **LOCAL, "ports": [{"port": 80}]}, put=True, fields={HCNP: 30703}),
        update(N + "update", "swapped", two({"port": 80, "nodePort": 30701}, {"port": 81, "nodePort": 30702}),
               {"ports": [{"name": "a", "port": 80, "nodePort": 30702}, {"name": "b", "port": 81, "nodePort": 30701}]},
               fields={"spec.ports.0.nodePort": 30702, "spec.ports.1.nodePort": 30701}),
        update(N + "update", "changed", FIXED_NP, {"ports": [{"port": 80, "nodePort": 30702}]}, fields={NODE_PORT: 30702}),
        update(N + "update", "out-of-range", FIXED_NP, {"ports": [{"port": 80, "nodePort": 1}]},
               "spec.ports[0].nodePort: Invalid value: 1: provided port is not in the valid range. The range of valid ports is 30000-32767"),
        update(N + "duplicate", "one-protocol", FIXED_NP, two({"port": 80, "nodePort": 30702}, {"port": 81, "nodePort": 30702}),
               refused=(500, None, "duplicate nodePort: {TCP 30702}")),
        update(N + "protocols-on-update", "different-port", FIXED_NP, two({"port": 80, "nodePort": 30702}, {**udp, "nodePort": 30702}),
               fields={"spec.ports.0.nodePort": 30702, "spec.ports.1.nodePort": 30702}),
        update(N + "hcnp", "needed", LB, LOCAL, fields={HCNP: ANY}),
        update(N + "hcnp", "asked", LB, {**LOCAL, "healthCheckNodePort": 30703}, fields={HCNP: 30703}),
        update(N + "lb-without", "switched-on", {**LB, "allocateLoadBalancerNodePorts": False}, {"allocateLoadBalancerNodePorts": True}, fields={NODE_PORT: ANY}),
        update(N + "dry-run", "update", {}, NP, query="?dryRun=All", fields={NODE_PORT: 32769}),
        update(V + "hcnp-immutable", "changed", {**LB, **LOCAL, "healthCheckNodePort": 30703}, {"healthCheckNodePort": 30704}, "spec.healthCheckNodePort: Forbidden: field is immutable"),
        update(V + "lb-class", "changed", {**LB, "loadBalancerClass": "a/b"}, {"loadBalancerClass": "a/c"}, 'spec.loadBalancerClass: Invalid value: "a/c": may not change once set'),
        update(V + "lb-class", "set-late", LB, {"loadBalancerClass": "a/c"}, 'spec.loadBalancerClass: Invalid value: "a/c": may not change once set'),
        update(V + "lb-class", "unset", {**LB, "loadBalancerClass": "a/b"}, {"loadBalancerClass": None}, "spec.loadBalancerClass: Invalid value: null: may not change once set"),
        update(V + "lb-class", "bad-with-the-type", NP, {**LB, "loadBalancerClass": "/c"},
               *('spec.loadBalancerClass: Invalid value: "/c": prefix part must be non-empty',) * 2),
        update(V + "lb-class", "with-the-type", NP, {**LB, "loadBalancerClass": "a/c"}, fields={"spec.loadBalancerClass": "a/c"}),
    ]  # fmt: skip


def statuses() -> list[Update]:
    path = "status.loadBalancer.ingress"

    def ingress(*entries: dict[str, Any]) -> dict[str, Any]:
        return {"status": {"loadBalancer": {"ingress": list(entries)}}}

    def bad(id: str, entry: dict[str, Any], *errors: str, first: dict[str, Any] = LB) -> Update:  # noqa: A002
        return update(V + "status-ingress", id, first, ingress(entry), *errors, subresource="status")

    return [
        bad("not-lb", {"ip": "192.0.2.9"}, f"{path}: Forbidden: may only be used when `spec.type` is 'LoadBalancer'", first=NP),
        bad("ip", {"ip": "x", "ipMode": "VIP"}, f'{path}[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
        bad("mode-without-ip", {"hostname": "a.b", "ipMode": "VIP"}, f"{path}[0].ipMode: Forbidden: may not be specified when `ip` is not set"),
        bad("mode", {"ip": "192.0.2.9", "ipMode": "X"}, f'{path}[0].ipMode: Unsupported value: "X": supported values: "Proxy", "VIP"'),
        bad("hostname-ip", {"hostname": "192.0.2.9"}, f'{path}[0].hostname: Invalid value: "192.0.2.9": must be a DNS name, not an IP address'),
        update(V + "status-ingress", "hostname", LB, ingress({"hostname": "lb.example.com"}), subresource="status", fields={f"{path}.0": {"hostname": "lb.example.com"}}),
        update(D + "ipMode", "ip", LB, ingress({"ip": "192.0.2.9"}), subresource="status", fields={f"{path}.0": {"ip": "192.0.2.9", "ipMode": "VIP"}}),
        update(D + "ipMode", "proxy", LB, ingress({"ip": "192.0.2.9", "ipMode": "Proxy"}), subresource="status", fields={f"{path}.0.ipMode": "Proxy"}),
    ]  # fmt: skip


def metadata() -> list[Update]:
    return [
        update(V + "metadata-update", "labels", {}, {"metadata": {"labels": {"a b": ""}}}, *3 * [
               "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
               " alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"]),
        update(V + "metadata-update", "finalizer-syntax", {}, {"metadata": {"finalizers": ["x"]}},
               'metadata.finalizers[0]: Invalid value: "x": name is neither a standard finalizer name nor is it fully qualified'),
        update(V + "metadata-update", "creation-time", {}, {"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z"}}, fields={"metadata.creationTimestamp": ANY}),
    ]  # fmt: skip


CREATES = [*defaults(), *warned(), *node_ports()]
UPDATES = [*type_changes(), *port_changes(), *statuses(), *metadata()]
