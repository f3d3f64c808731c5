"""New Services that are refused or taken for what is in them: section 1.5, in the order of its table."""

from __future__ import annotations

from unit.apiserver.semantics.harness import Create, create

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
NAME_PART = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
LB_ONLY = "may only be used when `type` is 'LoadBalancer'"
PORT = "must be between 1 and 65535, inclusive"
NO_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
NO_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
V = "validation/"
LB, NP, CIP, EN = ({"type": kind} for kind in ("LoadBalancer", "NodePort", "ClusterIP", "ExternalName"))
WEB = {**EN, "externalName": "web.example.com", "ports": None}


def port(**more: object) -> dict[str, object]:
    return {"port": 80, **more}


def names() -> list[Create]:
    def bad(name: str, why: str) -> Create:
        return create(
            V + "name",
            name or "empty",
            {},
            f'metadata.name: Invalid value: "{name}": {why}',
            meta={"name": name},
        )

    long, wide = "a" * 64, "\u00e4" * 32
    return [
        create(V + "name", "digit", {}, meta={"name": "1web"}),
        create(V + "name", "only-digits", {}, meta={"name": "123"}),
        create(V + "name", "63", {}, meta={"name": "a" * 63}),
        bad("Web", LABEL), bad("-web", LABEL), bad("web-", LABEL), bad("we_b", LABEL), bad("a b", LABEL),
        bad("a.b", "must not contain dots"), bad("1.2.3", "must not contain dots"), bad(".a", LABEL), bad("a..b", LABEL),
        create(V + "name", "64", {}, f'metadata.name: Invalid value: "{long}": must be no more than 63 bytes', meta={"name": long}),
        create(V + "name", "64-bytes", {}, f'metadata.name: Invalid value: "{wide}": must be no more than 63 bytes',
               f'metadata.name: Invalid value: "{wide}": {LABEL}', meta={"name": wide}),
        create(V + "name", "generated", {}, meta={"name": "", "generateName": "gen-"}, fields={"metadata.generateName": "gen-"}),
        create(V + "name", "none", {}, "metadata.name: Required value: name or generateName is required", meta={"name": ""}),
    ]  # fmt: skip


def shapes() -> list[Create]:
    one = "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for"
    forbidden = "Forbidden: may not be set for ExternalName services"
    return [
        create(V + "ports-missing", "clusterip", {"ports": None}, "spec.ports: Required value"),
        create(V + "ports-missing", "nodeport", {**NP, "ports": []}, "spec.ports: Required value"),
        create(V + "ports-missing", "lb", {**LB, "ports": None}, "spec.ports: Required value"),
        create(V + "ports-missing", "headless", {"ports": None, "clusterIP": "None"}),
        create(V + "ports-missing", "external-name", WEB),
        create(V + "nodeport-headless", "nodeport", {**NP, "clusterIP": "None"}, f"{one} NodePort services"),
        create(V + "nodeport-headless", "lb", {**LB, "clusterIP": "None"}, f"{one} LoadBalancer services"),
        create(V + "nodeport-headless", "no-ports", {**NP, "clusterIP": "None", "ports": None}, f"{one} NodePort services"),
        create(V + "external-name-fields", "clusterIPs", {**WEB, "clusterIP": "10.96.7.7"}, f"spec.clusterIPs: {forbidden}"),
        create(V + "external-name-fields", "none", {**WEB, "clusterIP": "None"}, f"spec.clusterIPs: {forbidden}"),
        create(V + "external-name-fields", "all", {**WEB, "clusterIP": "10.96.7.7", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"},
               *(f"spec.{name}: {forbidden}" for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"))),
        create(V + "external-name", "missing", {**EN, "ports": None}, "spec.externalName: Required value"),
        create(V + "external-name", "dot", {**WEB, "externalName": "."}, "spec.externalName: Required value"),
        create(V + "external-name", "trailing-dot", {**WEB, "externalName": "a.example."}),
        create(V + "external-name", "two-dots", {**WEB, "externalName": "a.."}, f'spec.externalName: Invalid value: "a.": {SUBDOMAIN}'),
        create(V + "external-name", "upper", {**WEB, "externalName": "A.b"}, f'spec.externalName: Invalid value: "A.b": {SUBDOMAIN}'),
        create(V + "external-name", "under", {**WEB, "externalName": "a_b"}, f'spec.externalName: Invalid value: "a_b": {SUBDOMAIN}'),
        create(V + "external-name", "ip", {**WEB, "externalName": "10.0.0.1"}),
        create(V + "external-name", "with-ports", {**WEB, "ports": [port()]}),
        create(V + "type", "unknown", {"type": "Magic"},
               'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'),
        create(V + "type", "escaped-as-json", {"type": "<b>&"},
               r'spec.type: Unsupported value: "\u003cb\u003e\u0026": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'),
        create(V + "external-name", "escaped-as-text", {**WEB, "externalName": '<"\x01\u200b\u00e4\n'},
               rf'spec.externalName: Invalid value: "<\"\x01\u200b\u00e4\n": {SUBDOMAIN}'.replace(r"\u00e4", "\u00e4")),
        create(V + "type", "case", {"type": "nodeport"},
               'spec.type: Unsupported value: "nodeport": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"'),
        *(create(V + "type", kind["type"], {**kind, **({} if kind is not EN else WEB)}) for kind in (CIP, NP, LB, EN)),
    ]  # fmt: skip


def ports() -> list[Create]:
    targets = (
        ("a" * 16, ("must be no more than 15 bytes",)),
        (
            "UP",
            (
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "must contain at least one letter (a-z)",
            ),
        ),
        ("8-0", ("must contain at least one letter (a-z)",)),
        ("a--b", ("must not contain consecutive hyphens",)),
        ("-a", ("must not begin or end with a hyphen",)),
        ("a-", ("must not begin or end with a hyphen",)),
        ("a_b", ("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",)),
        ("80", ("must contain at least one letter (a-z)",)),
    )
    proto = 'supported values: "SCTP", "TCP", "UDP"'
    return [
        create(V + "port-name-missing", "first", {"ports": [port(), {"port": 81, "name": "b"}]}, "spec.ports[0].name: Required value"),
        create(V + "port-name-missing", "both", {"ports": [port(), {"port": 81}]}, "spec.ports[0].name: Required value", "spec.ports[1].name: Required value"),
        create(V + "port-name-missing", "alone", {"ports": [port()]}),
        create(V + "port-name", "long", {"ports": [port(name="a" * 63)]}),
        create(V + "port-name", "too-long", {"ports": [port(name="a" * 64)]}, f'spec.ports[0].name: Invalid value: "{"a" * 64}": must be no more than 63 bytes'),
        create(V + "port-name", "digits", {"ports": [port(name="80")]}),
        create(V + "port-name", "hyphens", {"ports": [port(name="a--b")]}),
        create(V + "port-name", "upper", {"ports": [port(name="Http")]}, f'spec.ports[0].name: Invalid value: "Http": {LABEL}'),
        create(V + "port-name", "dots", {"ports": [port(name="a.b")]}, 'spec.ports[0].name: Invalid value: "a.b": must not contain dots'),
        create(V + "port-name", "twice", {"ports": [port(name="a"), {"port": 81, "name": "a"}]}, 'spec.ports[1].name: Duplicate value: "a"'),
        *(create(V + "port-number", str(number), {"ports": [{"port": number, "targetPort": 1}]}, f"spec.ports[0].port: Invalid value: {number}: {PORT}")
          for number in (0, -1, 65536, 2147483647)),
        create(V + "port-number", "zero-both", {"ports": [{"port": 0}]},
               f"spec.ports[0].port: Invalid value: 0: {PORT}", f"spec.ports[0].targetPort: Invalid value: 0: {PORT}"),
        *(create(V + "port-number", f"good-{number}", {"ports": [{"port": number}]}) for number in (1, 65535)),
        *(create(V + "protocol", kind, {"ports": [port(protocol=kind)]}) for kind in ("TCP", "UDP", "SCTP")),
        *(create(V + "protocol", kind, {"ports": [port(protocol=kind)]}, f'spec.ports[0].protocol: Unsupported value: "{kind}": {proto}')
          for kind in ("ICMP", "tcp", "TCP ")),
        *(create(V + "target-port", str(number), {"ports": [port(targetPort=number)]}, f"spec.ports[0].targetPort: Invalid value: {number}: {PORT}")
          for number in (-1, 65536)),
        *(create(V + "target-port", f"name-{name}", {"ports": [port(targetPort=name)]}, *(f'spec.ports[0].targetPort: Invalid value: "{name}": {why}' for why in whys))
          for name, whys in targets),
        *(create(V + "target-port", f"good-{good}", {"ports": [port(targetPort=good)]}, fields={"spec.ports.0.targetPort": good})
          for good in (1, 65535, "http", "a" * 15, "80a", "a-b")),
        *(create(V + "app-protocol", good.replace("/", "-"), {"ports": [port(appProtocol=good)]}, fields={"spec.ports.0.appProtocol": good})
          for good in ("http", "kubernetes.io/h2c", "HTTP_2.0")),
        create(V + "app-protocol", "bad", {"ports": [port(appProtocol="a b")]}, f'spec.ports[0].appProtocol: Invalid value: "a b": {NAME_PART}'),
        create(V + "app-protocol", "prefix", {"ports": [port(appProtocol="/h2c")]}, 'spec.ports[0].appProtocol: Invalid value: "/h2c": prefix part must be non-empty'),
    ]  # fmt: skip


def numbers() -> list[Create]:
    two = [port(name="a"), {"port": 81, "name": "b"}]
    shown = '{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}'
    return [
        create(V + "nodePort-on-clusterIP", "one", {"ports": [port(nodePort=30777)]}, "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"),
        create(V + "nodePort-on-clusterIP", "both", {"ports": [port(name="a", nodePort=30777), {"port": 81, "name": "b", "nodePort": 30778}]},
               *(f"spec.ports[{index}].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'" for index in (0, 1))),
        create(V + "nodePort-on-clusterIP", "external-name", {**WEB, "ports": [port(nodePort=30777)]}, fields={"spec.ports.0.nodePort": 30777}),
        create(V + "nodePort-duplicate", "masked", {**NP, "ports": [port(name="a", nodePort=30777), {"port": 81, "name": "b", "nodePort": 30777}]},
               "spec.ports[1].nodePort: Invalid value: 30777: provided port is already allocated"),
        create(V + "nodePort-duplicate", "same-port", {**NP, "ports": [port(name="a", nodePort=30777), port(name="b", nodePort=30777)]},
               "spec.ports[1].nodePort: Duplicate value: 30777", f"spec.ports[1]: Duplicate value: {shown}"),
        create(V + "port-duplicate", "tcp", {"ports": [port(name="a"), port(name="b")]}, f"spec.ports[1]: Duplicate value: {shown}"),
        create(V + "port-duplicate", "protocols", {"ports": [port(name="a"), port(name="b", protocol="UDP"), port(name="c", protocol="SCTP")]}),
        create(V + "port-duplicate", "thrice", {"ports": [port(name=name) for name in "abc"]}, *(f"spec.ports[{index}]: Duplicate value: {shown}" for index in (1, 2))),
        create(V + "not-validated", "two", {"ports": two}),
        create(V + "not-validated", "kubelet-port", {**LB, "ports": [{"port": 10250}]}),
    ]  # fmt: skip


def selection() -> list[Create]:
    key = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
    return [
        create(V + "selector", "good", {"selector": {"app": "web", "example.com/x": ""}}, fields={"spec.selector": {"app": "web", "example.com/x": ""}}),
        create(V + "selector", "key", {"selector": {"a b": "ok"}}, f'spec.selector: Invalid value: "a b": {NAME_PART}'),
        create(V + "selector", "value", {"selector": {"a": "not ok"}}, f'spec.selector: Invalid value: "not ok": {VALUE}'),
        create(V + "selector", "long-value", {"selector": {"a": "x" * 64}}, f'spec.selector: Invalid value: "{"x" * 64}": must be no more than 63 bytes'),
        create(V + "selector", "slashes", {"selector": {"a/b/c": ""}}, f'spec.selector: Invalid value: "a/b/c": {key}'),
        create(V + "labels", "value", {}, f'metadata.labels: Invalid value: "-": {VALUE}', meta={"labels": {"a": "-"}}),
        create(V + "labels", "key", {}, "metadata.labels: Invalid value: \"/a\": prefix part must be non-empty", meta={"labels": {"/a": ""}}),
        create(V + "labels", "prefix", {}, f'metadata.labels: Invalid value: "A_/a": prefix part {SUBDOMAIN}', meta={"labels": {"A_/a": ""}}),
        create(V + "labels", "empty-name", {},
               'metadata.labels: Invalid value: "a/": name part must be non-empty', f'metadata.labels: Invalid value: "a/": {NAME_PART}', meta={"labels": {"a/": ""}}),
        create(V + "annotations", "upper", {}, meta={"annotations": {"Example.COM/Key": "any text \u00e4 \n"}}),
        create(V + "annotations", "key", {}, f'metadata.annotations: Invalid value: "a b": {NAME_PART}', meta={"annotations": {"a b": ""}}),
        create(V + "annotations", "size", {}, meta={"annotations": {"a": "x" * 262143}}),
        create(V + "annotations", "too-big", {}, "metadata.annotations: Too long: may not be more than 262144 bytes", meta={"annotations": {"a": "x" * 262144}}),
    ]  # fmt: skip


def affinity() -> list[Create]:
    path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"

    def seconds(number: int) -> dict[str, object]:
        return {
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": number}},
        }

    return [
        create(V + "affinity", "unknown", {"sessionAffinity": "Cookie"}, 'spec.sessionAffinity: Unsupported value: "Cookie": supported values: "ClientIP", "None"'),
        create(V + "affinity", "case", {"sessionAffinity": "clientIP"}, 'spec.sessionAffinity: Unsupported value: "clientIP": supported values: "ClientIP", "None"'),
        create(V + "affinity-config", "cleared", {"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}},
               fields={"spec.sessionAffinity": "None"}),
        *(create(V + "affinity-timeout", str(bad), seconds(bad), f"{path}: Invalid value: {bad}: must be greater than 0 and less than 86400") for bad in (0, -1, 86401)),
        *(create(V + "affinity-timeout", f"good-{good}", seconds(good), fields={path: good}) for good in (1, 86399, 86400)),
    ]  # fmt: skip


def addresses() -> list[Create]:
    bad = (
        ("1.2.3.04", "must not have leading 0s"), ("x", NO_IP), ("1.2.3", NO_IP), ("1.2.3.4/32", NO_IP), ("", NO_IP), ("fe80::1%eth0", NO_IP),
        ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"), ("0.0.0.0", "may not be unspecified (0.0.0.0)"), ("::", "may not be unspecified (::)"),
        ("127.1.1.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"), ("::1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("169.254.1.1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"), ("fe80::1", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ("224.0.0.9", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"), ("ff02::1", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    )  # fmt: skip
    deprecated = ("spec.externalIPs is deprecated and may no longer be implemented in some clusters",)
    ranges = (
        ("10.0.0.1/8", "must not have bits set beyond the prefix length"), ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
        ("010.0.0.0/8", "must not have leading 0s in IP or prefix length"), ("10.0.0.0", NO_CIDR), ("10.0.0.0/33", NO_CIDR), ("x/8", NO_CIDR),
        ("fd00::/129", NO_CIDR), ("::ffff:10.0.0.0/104", "must not have an IPv4-mapped IPv6 address"),
    )  # fmt: skip
    note = "service.beta.kubernetes.io/load-balancer-source-ranges"
    path = f"metadata.annotations[{note}]"
    field = "spec.LoadBalancerSourceRanges"
    return [
        *(create(V + "external-ips", text or "empty", {"externalIPs": [text]}, f'spec.externalIPs[0]: Invalid value: "{text}": {why}') for text, why in bad),
        create(V + "external-ips", "second", {"externalIPs": ["192.0.2.1", "x"]}, f'spec.externalIPs[1]: Invalid value: "x": {NO_IP}'),
        *(create(V + "external-ips", f"good-{good}", {"externalIPs": [good]}, warnings=deprecated) for good in ("192.0.2.1", "2001:db8::1", "224.0.1.1", "255.255.255.255")),
        create(V + "source-ranges", "not-lb", {"loadBalancerSourceRanges": ["10.0.0.0/8"]}, f"{field}: Forbidden: {LB_ONLY}"),
        create(V + "source-ranges", "not-lb-bad", {**NP, "loadBalancerSourceRanges": ["x"]}, f"{field}: Forbidden: {LB_ONLY}", f'{field}[0]: Invalid value: "x": {NO_CIDR}'),
        *(create(V + "source-ranges", text, {**LB, "loadBalancerSourceRanges": [text]}, f'{field}[0]: Invalid value: "{text}": {why}') for text, why in ranges),
        create(V + "source-ranges", "spaces", {**LB, "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "fd00::/8"]}),
        create(V + "source-ranges", "note", {**LB}, meta={"annotations": {note: "10.0.0.0/8, 192.0.2.0/24"}}),
        create(V + "source-ranges", "note-bad", {**LB}, f'{path}: Invalid value: "x": {NO_CIDR}', meta={"annotations": {note: "10.0.0.0/8,x"}}),
        create(V + "source-ranges", "note-not-lb", {}, f"{path}: Forbidden: {LB_ONLY}", meta={"annotations": {note: "10.0.0.0/8"}}),
    ]  # fmt: skip


def policies() -> list[Create]:
    hcnp = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
    local = {"externalTrafficPolicy": "Local"}
    external = "may only be set for externally-accessible services"
    hints, mode = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
    told = (f"annotation {hints} is deprecated, please use {mode} instead",)
    deprecated = ("spec.externalIPs is deprecated and may no longer be implemented in some clusters",)
    return [
        *(create(V + "allocate", f"{kind['type']}-{value}", {**kind, "allocateLoadBalancerNodePorts": value}, f"spec.allocateLoadBalancerNodePorts: Forbidden: {LB_ONLY}")
          for kind in (CIP, NP) for value in (True, False)),
        *(create(V + "allocate", f"lb-{value}", {**LB, "allocateLoadBalancerNodePorts": value}, fields={"spec.allocateLoadBalancerNodePorts": value}) for value in (True, False)),
        create(V + "lb-class", "not-lb", {**NP, "loadBalancerClass": "a/b"}, f"spec.loadBalancerClass: Forbidden: {LB_ONLY}"),
        create(V + "lb-class", "bad", {**LB, "loadBalancerClass": "a b"}, f'spec.loadBalancerClass: Invalid value: "a b": {NAME_PART}'),
        create(V + "lb-class", "good", {**LB, "loadBalancerClass": "example.com/x"}, fields={"spec.loadBalancerClass": "example.com/x"}),
        *(create(V + "etp-not-external", value, {"externalTrafficPolicy": value}, f'spec.externalTrafficPolicy: Invalid value: "{value}": {external}') for value in ("Local", "Cluster")),
        create(V + "etp-not-external", "external-name", {**WEB, **local}, f'spec.externalTrafficPolicy: Invalid value: "Local": {external}'),
        create(V + "etp-not-external", "with-external-ips", {**local, "externalIPs": ["192.0.2.1"]}, fields={"spec.externalTrafficPolicy": "Local"}, warnings=deprecated),
        *(create(V + "etp", f"{kind['type']}-bad", {**kind, "externalTrafficPolicy": "Near"}, 'spec.externalTrafficPolicy: Unsupported value: "Near": supported values: "Cluster", "Local"')
          for kind in (NP, LB)),
        create(V + "etp", "local", {**NP, **local}, fields={"spec.externalTrafficPolicy": "Local"}),
        *(create(V + "hcnp", kind["type"], {**kind, "healthCheckNodePort": 30999}, f"spec.healthCheckNodePort: Invalid value: 30999: {hcnp}") for kind in (CIP, NP, LB)),
        create(V + "hcnp", "nodeport-local", {**NP, **local, "healthCheckNodePort": 30999}, f"spec.healthCheckNodePort: Invalid value: 30999: {hcnp}"),
        create(V + "hcnp", "good", {**LB, **local, "healthCheckNodePort": 30999}, fields={"spec.healthCheckNodePort": 30999}),
        create(V + "itp", "bad", {"internalTrafficPolicy": "Far"}, 'spec.internalTrafficPolicy: Unsupported value: "Far": supported values: "Cluster", "Local"'),
        create(V + "itp", "empty", {"internalTrafficPolicy": ""}, 'spec.internalTrafficPolicy: Unsupported value: "": supported values: "Cluster", "Local"'),
        create(V + "itp", "null", {"internalTrafficPolicy": None}, fields={"spec.internalTrafficPolicy": "Cluster"}),
        create(V + "lb-class", "empty", {**LB, "loadBalancerClass": ""},
               'spec.loadBalancerClass: Invalid value: "": name part must be non-empty', f'spec.loadBalancerClass: Invalid value: "": {NAME_PART}'),
        create(V + "distribution", "empty", {"trafficDistribution": ""},
               'spec.trafficDistribution: Unsupported value: "": supported values: "PreferClose", "PreferSameZone", "PreferSameNode"'),
        create(V + "itp", "local", {"internalTrafficPolicy": "Local"}, fields={"spec.internalTrafficPolicy": "Local"}),
        create(V + "distribution", "bad", {"trafficDistribution": "Any"},
               'spec.trafficDistribution: Unsupported value: "Any": supported values: "PreferClose", "PreferSameZone", "PreferSameNode"'),
        *(create(V + "distribution", good, {"trafficDistribution": good}, fields={"spec.trafficDistribution": good}) for good in ("PreferSameZone", "PreferSameNode")),
        create(V + "topology", "disagree", {}, f'metadata.annotations[{mode}]: Invalid value: "Disabled": must match annotations[{hints}] when both are specified',
               meta={"annotations": {hints: "Auto", mode: "Disabled"}}),
        create(V + "topology", "agree", {}, meta={"annotations": {hints: "Auto", mode: "Auto"}}, warnings=told),
        create(V + "topology", "one", {}, meta={"annotations": {mode: "Auto"}}),
        create(V + "not-validated", "external-ips-overlap", {"externalIPs": ["10.96.0.1", "10.96.0.1"]}, warnings=deprecated),
    ]  # fmt: skip


ROWS = [*names(), *shapes(), *ports(), *numbers(), *selection(), *affinity(), *addresses(), *policies()]
