"""ClusterIPs and families of new Services and of those that change: section 1.4 and its part of 1.5."""

from __future__ import annotations

from unit.apiserver.semantics.harness import ABSENT, ANY, Create, Update, create, update

V, F, C = "validation/", "families/", "clusterIP/"
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
NO_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
FIXED = "may not change once set"
HEADLESS = {"clusterIP": "None"}
SELECTED = {"clusterIP": "None", "selector": {"a": "b"}}
POLICY = "spec.ipFamilyPolicy"
BOTH = ["10.96.8.8", "fd00:96::88"]
NEEDS_SINGLE = f"{POLICY}: Invalid value: \"{{}}\": must be 'SingleStack' to release the secondary {{}}"
NEEDS_DUAL = f"{POLICY}: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple {{}} are specified"
NOT_DUAL = f'{POLICY}: Invalid value: "{REQUIRE}": this cluster is not configured for dual-stack services'


def families(*found: str, policy: str = SINGLE) -> dict[str, object]:
    return {"spec.ipFamilies": list(found), POLICY: policy}


def new_ones() -> list[Create]:
    both = BOTH
    return [
        create(F + "normalize", "singular", {"clusterIP": "10.96.8.8"}, fields={"spec.clusterIPs": ["10.96.8.8"], **families("IPv4")}),
        create(F + "normalize", "both", {"clusterIP": "10.96.8.8", "clusterIPs": ["10.96.8.8"]}, fields={"spec.clusterIPs": ["10.96.8.8"]}),
        create(V + "clusterIPs-alone", "plural", {"clusterIPs": ["10.96.8.8"]},
               'spec.clusterIPs: Invalid value: ["10.96.8.8"]: must be empty when `clusterIP` is not specified'),
        create(V + "clusterIPs-mismatch", "differ", {"clusterIP": "10.96.8.8", "clusterIPs": ["10.96.8.9"]},
               'spec.clusterIPs: Invalid value: ["10.96.8.9"]: first value must match `clusterIP`'),
        create(V + "clusterIPs-list", "none-first", {"clusterIP": "None", "clusterIPs": ["None", "10.96.8.8"]},
               'spec.clusterIPs: Invalid value: ["None","10.96.8.8"]: \'None\' must be the first and only value'),
        create(V + "clusterIPs-list", "none-second", {"clusterIP": "10.96.8.8", "clusterIPs": ["10.96.8.8", "None"]},
               f'spec.clusterIPs[1]: Invalid value: "None": {NO_IP}'),
        create(V + "clusterIPs-list", "three", {"clusterIP": "10.96.8.8", "clusterIPs": [*both, "10.96.8.9"]},
               f'spec.clusterIPs: Invalid value: ["{both[0]}","{both[1]}","10.96.8.9"]: may only hold up to 2 values'),
        create(V + "clusterIPs-list", "three-of-one", {"clusterIP": "10.96.8.8", "clusterIPs": ["10.96.8.8", "10.96.8.9", "10.96.8.10"]},
               'spec.clusterIPs: Invalid value: ["10.96.8.8","10.96.8.9","10.96.8.10"]: may only hold up to 2 values',
               'spec.clusterIPs: Invalid value: ["10.96.8.8","10.96.8.9","10.96.8.10"]: may specify no more than one IP for each IP family'),
        create(V + "clusterIPs-list", "same-family", {"clusterIP": "10.96.8.8", "clusterIPs": ["10.96.8.8", "10.96.8.9"]},
               'spec.clusterIPs: Invalid value: ["10.96.8.8","10.96.8.9"]: may specify no more than one IP for each IP family'),
        create(V + "clusterIPs-list", "nonsense", {"clusterIP": "x"}, f'spec.clusterIPs[0]: Invalid value: "x": {NO_IP}'),
        create(V + "clusterIPs-list", "zeros", {"clusterIP": "10.96.08.8"}, 'spec.clusterIPs[0]: Invalid value: "10.96.08.8": must not have leading 0s'),
        create(V + "clusterIPs-list", "mapped", {"clusterIP": "::ffff:10.96.8.8"},
               'spec.clusterIPs[0]: Invalid value: "::ffff:10.96.8.8": must not be an IPv4-mapped IPv6 address'),
        create(V + "clusterIP-and-family", "v4", {"clusterIP": "10.96.8.8", "ipFamilies": ["IPv6"]},
               'spec.clusterIPs[0]: Invalid value: "10.96.8.8": expected an IPv6 value as indicated by `ipFamilies[0]`'),
        create(V + "clusterIP-and-family", "v6", {"clusterIP": "fd00::1", "ipFamilies": ["IPv4"]},
               'spec.clusterIPs[0]: Invalid value: "fd00::1": expected an IPv4 value as indicated by `ipFamilies[0]`'),
        create(V + "clusterIP-and-family", "second", {"clusterIP": both[0], "clusterIPs": both, "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": PREFER},
               f'spec.clusterIPs[0]: Invalid value: "{both[0]}": expected an IPv6 value as indicated by `ipFamilies[0]`',
               f'spec.clusterIPs[1]: Invalid value: "{both[1]}": expected an IPv4 value as indicated by `ipFamilies[1]`', cluster="v4v6"),
        create(V + "ipFamilies", "unknown", {"ipFamilies": ["IPv5"]}, 'spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"'),
        create(V + "ipFamilies", "twice", {"ipFamilies": ["IPv4", "IPv4"]}, 'spec.ipFamilies[1]: Duplicate value: "IPv4"'),
        create(V + "ipFamilyPolicy", "empty", {"ipFamilyPolicy": ""},
               f'{POLICY}: Unsupported value: "": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"'),
        create(V + "ipFamilyPolicy", "null", {"ipFamilyPolicy": None}, fields=families("IPv4")),
        create(V + "ipFamilyPolicy", "unknown", {"ipFamilyPolicy": "All"},
               f'{POLICY}: Unsupported value: "All": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"'),
    ]  # fmt: skip


def cluster_rules() -> list[Create]:
    """What a cluster of these families can do."""
    both = BOTH
    return [
        *(create(F + "policy-default", kind, {}, cluster=kind, fields=families(primary))
          for kind, primary in (("v4", "IPv4"), ("v6", "IPv6"), ("v4v6", "IPv4"), ("v6v4", "IPv6"))),
        *(create(F + "require-on-single", kind, {"ipFamilyPolicy": REQUIRE}, NOT_DUAL, cluster=kind) for kind in ("v4", "v6")),
        create(F + "require-on-single", "and-family", {"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6"]}, NOT_DUAL,
               'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        create(F + "family-not-configured", "v4", {"ipFamilies": ["IPv6"]}, 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        create(F + "family-not-configured", "v6", {"ipFamilies": ["IPv4"]}, 'spec.ipFamilies[0]: Invalid value: "IPv4": not configured on this cluster', cluster="v6"),
        create(F + "family-not-configured", "second", {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": PREFER},
               'spec.ipFamilies[1]: Invalid value: "IPv6": not configured on this cluster'),
        create(F + "family-not-configured", "headless-selected", {**SELECTED, "ipFamilies": ["IPv6"]},
               'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        create(F + "clusterIP-family", "v6-on-v4", {"clusterIP": "fd00::1"}, 'spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster'),
        create(F + "clusterIP-family", "v4-on-v6", {"clusterIP": "10.0.0.1"}, 'spec.clusterIPs[0]: Invalid value: ["10.0.0.1"]: IPv4 is not configured on this cluster', cluster="v6"),
        create(F + "clusterIP-family", "inferred", {"clusterIP": "fd00:96::88"}, cluster="v4v6", fields={**families("IPv6"), "spec.clusterIPs": ["fd00:96::88"]}),
        create(F + "single-with-two", "addresses", {"clusterIP": both[0], "clusterIPs": both, "ipFamilyPolicy": SINGLE}, NEEDS_DUAL.format("cluster IPs"), cluster="v4v6"),
        create(F + "single-with-two", "by-default", {"clusterIP": both[0], "clusterIPs": both}, NEEDS_DUAL.format("cluster IPs"), cluster="v4v6"),
        create(F + "single-with-two", "families", {"ipFamilies": ["IPv4", "IPv6"]}, NEEDS_DUAL.format("IP families"), cluster="v4v6"),
        create(F + "single-with-two", "both", {"clusterIP": both[0], "clusterIPs": both, "ipFamilies": ["IPv4", "IPv6"]},
               NEEDS_DUAL.format("cluster IPs"), NEEDS_DUAL.format("IP families"), cluster="v4v6"),
        *(create(F + "append-other", f"{kind}-{policy}", {"ipFamilyPolicy": policy}, cluster=kind,
                 fields={**families(*found, policy=policy), "spec.clusterIPs.1": ANY})
          for kind, found in (("v4v6", ("IPv4", "IPv6")), ("v6v4", ("IPv6", "IPv4"))) for policy in (PREFER, REQUIRE)),
        create(F + "append-other", "prefer-on-single", {"ipFamilyPolicy": PREFER}, fields={**families("IPv4", policy=PREFER), "spec.clusterIPs.1": ABSENT}),
        create(F + "append-other", "first-is-v6", {"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv6"]}, cluster="v4v6", fields=families("IPv6", "IPv4", policy=PREFER)),
        create(F + "append-other", "asked-first", {"ipFamilyPolicy": REQUIRE, "clusterIP": "10.96.8.8"}, cluster="v4v6",
               fields={**families("IPv4", "IPv6", policy=REQUIRE), "spec.clusterIPs.0": "10.96.8.8", "spec.clusterIPs.1": ANY}),
        create(F + "append-other", "asked-both", {"ipFamilyPolicy": REQUIRE, "clusterIP": both[0], "clusterIPs": both}, cluster="v4v6",
               fields={**families("IPv4", "IPv6", policy=REQUIRE), "spec.clusterIPs": both}),
        create(F + "append-other", "asked-both-swapped", {"ipFamilyPolicy": PREFER, "clusterIP": both[1], "clusterIPs": both[::-1]}, cluster="v4v6",
               fields={**families("IPv6", "IPv4", policy=PREFER), "spec.clusterIPs": both[::-1]}),
    ]  # fmt: skip


def headless_and_allocator() -> list[Create]:
    return [
        *(create(F + "headless-selectorless", kind, HEADLESS, cluster=kind, fields={**families(*found, policy=REQUIRE), "spec.clusterIPs": ["None"]})
          for kind, found in (("v4", ("IPv4", "IPv6")), ("v6", ("IPv6", "IPv4")), ("v4v6", ("IPv4", "IPv6")), ("v6v4", ("IPv6", "IPv4")))),
        create(F + "headless-selectorless", "single", {**HEADLESS, "ipFamilyPolicy": SINGLE}, fields=families("IPv4")),
        create(F + "headless-selectorless", "other-family", {**HEADLESS, "ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv6"]}, fields=families("IPv6")),
        create(F + "headless-selectorless", "prefer", {**HEADLESS, "ipFamilyPolicy": PREFER, "ipFamilies": ["IPv6"]}, fields=families("IPv6", "IPv4", policy=PREFER)),
        *(create(F + "headless-selectorless", f"selected-{kind}", SELECTED, cluster=kind, fields=families(primary)) for kind, primary in (("v4", "IPv4"), ("v6v4", "IPv6"))),
        create(F + "headless-selectorless", "selected-prefer", {**SELECTED, "ipFamilyPolicy": PREFER}, cluster="v4v6", fields=families("IPv4", "IPv6", policy=PREFER)),
        create(F + "external-name", "nothing", {"type": "ExternalName", "externalName": "a.b"}, cluster="v4v6",
               fields={"spec.ipFamilies": ABSENT, POLICY: ABSENT, "spec.clusterIP": ABSENT, "spec.clusterIPs": ABSENT}),
        create(C + "taken", "first", {"clusterIP": "10.96.0.1"},
               'spec.clusterIPs: Invalid value: ["10.96.0.1"]: failed to allocate IP 10.96.0.1: provided IP is already allocated'),
        create(C + "taken", "second", {"ipFamilyPolicy": REQUIRE, "clusterIP": "fd00:96::8", "clusterIPs": ["fd00:96::8", "10.96.0.1"]},
               'spec.clusterIPs: Invalid value: ["fd00:96::8","10.96.0.1"]: failed to allocate IP 10.96.0.1: provided IP is already allocated', cluster="v4v6"),
        create(C + "no-range", "v4", {"clusterIP": "10.97.0.1"},
               'spec.clusterIPs: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: the provided network does not match the current range'),
        create(C + "no-range", "v6", {"clusterIP": "fd00::1"},
               'spec.clusterIPs: Invalid value: ["fd00::1"]: failed to allocate IP fd00::1: the provided network does not match the current range', cluster="v6"),
        create(C + "network-address", "network", {"clusterIP": "10.96.0.0"},
               'spec.clusterIPs: Invalid value: ["10.96.0.0"]: failed to allocate IP 10.96.0.0: the provided network does not match the current range'),
        create(C + "network-address", "broadcast", {"clusterIP": "10.96.255.255"},
               'spec.clusterIPs: Invalid value: ["10.96.255.255"]: failed to allocate IP 10.96.255.255: the provided network does not match the current range'),
        create(C + "network-address", "last-v6", {"clusterIP": "fd00:96::ffff"}, cluster="v6", fields={"spec.clusterIP": "fd00:96::ffff"}),
        create(C + "dry-run", "taken", {"clusterIP": "10.96.0.1"}, query="?dryRun=All", fields={"spec.clusterIP": "10.96.0.1"}),
        create(C + "dry-run", "no-range", {"clusterIP": "10.97.0.1"},
               'spec.clusterIPs: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: the provided IP (10.97.0.1) is not in the valid range.'
               " The range of valid IPs is 10.96.0.0/16", query="?dryRun=All"),
        create(C + "dry-run", "any", {}, query="?dryRun=All", fields={"spec.clusterIP": "10.96.0.0"}),
        create(C + "dry-run", "both", {"ipFamilyPolicy": REQUIRE}, query="?dryRun=All", cluster="v4v6", fields={"spec.clusterIPs": ["10.96.0.0", "fd00:96::"]}),
        create(C + "any", "v4", {}, fields={"spec.clusterIP": ANY, "spec.clusterIPs.0": ANY}),
    ]  # fmt: skip


def changes() -> list[Update]:
    dual = {"ipFamilyPolicy": REQUIRE}
    given = {"ipFamilyPolicy": REQUIRE, "clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9", "fd00:96::99"]}
    one = {"clusterIP": "10.96.9.9"}
    first = {"spec.clusterIPs": ["10.96.9.9"], **families("IPv4")}
    v4v6 = {"cluster": "v4v6"}
    return [
        update(F + "transition", "single-to-require", one, dual, **v4v6, fields={**families("IPv4", "IPv6", policy=REQUIRE), "spec.clusterIPs.1": ANY}),
        update(F + "transition", "single-to-prefer", one, {"ipFamilyPolicy": PREFER}, **v4v6, fields={**families("IPv4", "IPv6", policy=PREFER), "spec.clusterIPs.1": ANY}),
        update(F + "transition", "asked-second", one, given, **v4v6, fields={**families("IPv4", "IPv6", policy=REQUIRE), "spec.clusterIPs": given["clusterIPs"]}),
        update(F + "transition", "second-taken", one, {**dual, "clusterIPs": ["10.96.9.9", "fd00:96::99"]}, **v4v6,
               fields={"spec.clusterIPs": ["10.96.9.9", "fd00:96::99"]}),
        update(F + "transition", "require-on-single", one, dual, NOT_DUAL),
        update(F + "transition", "from-external-name", {"type": "ExternalName", "externalName": "a.b"}, {"type": "ClusterIP", **dual}, **v4v6,
               fields={**families("IPv4", "IPv6", policy=REQUIRE), "spec.clusterIPs.1": ANY},
               warnings=('spec.externalName is ignored when spec.type is not "ExternalName"',)),
        update(F + "transition", "to-external-name", given, {"type": "ExternalName", "externalName": "a.b"}, **v4v6,
               fields={"spec.ipFamilies": ABSENT, POLICY: ABSENT, "spec.clusterIPs": ABSENT, "spec.clusterIP": ABSENT}),
        update(F + "transition", "headless-families", {**SELECTED}, {"ipFamilyPolicy": PREFER}, **v4v6, fields={**families("IPv4", "IPv6", policy=PREFER), "spec.clusterIPs": ["None"]}),
        update(F + "single-truncates", "patch", given, {"ipFamilyPolicy": SINGLE}, **v4v6, fields=first),
        update(F + "single-truncates", "put", given, {"ipFamilyPolicy": SINGLE, "ports": [{"port": 80}]}, put=True, **v4v6, fields=first),
        update(F + "single-truncates", "lists-too", given, {"ipFamilyPolicy": SINGLE, "clusterIPs": ["10.96.9.9"], "ipFamilies": ["IPv4"]}, **v4v6, fields=first),
        update(F + "release-needs-single", "addresses", given, {"clusterIPs": ["10.96.9.9"]}, NEEDS_SINGLE.format(REQUIRE, "cluster IP"), **v4v6),
        update(F + "release-needs-single", "families", given, {"ipFamilies": ["IPv4"]}, NEEDS_SINGLE.format(REQUIRE, "IP family"), **v4v6),
        update(F + "release-needs-single", "both", {**given, "ipFamilyPolicy": PREFER}, {"clusterIPs": ["10.96.9.9"], "ipFamilies": ["IPv4"]},
               NEEDS_SINGLE.format(PREFER, "cluster IP"), NEEDS_SINGLE.format(PREFER, "IP family"), **v4v6),
        update(F + "prefer-stays", "untouched", {**given, "ipFamilyPolicy": PREFER}, {"metadata": {"labels": {"a": "b"}}}, **v4v6,
               fields={**families("IPv4", "IPv6", policy=PREFER), "spec.clusterIPs": given["clusterIPs"]}),
        update(F + "prefer-stays", "on-single", {"ipFamilyPolicy": PREFER}, {"metadata": {"labels": {"a": "b"}}}, fields=families("IPv4", policy=PREFER)),
        update(F + "policy-default", "put-keeps", given, {"ports": [{"port": 81}]}, put=True, **v4v6,
               fields={**families("IPv4", "IPv6", policy=REQUIRE), "spec.clusterIPs": given["clusterIPs"], "spec.ports.0.port": 81}),
        update(F + "normalize", "cleared", given, {"clusterIP": None}, **v4v6, fields={"spec.clusterIPs": given["clusterIPs"]}),
        update(F + "normalize", "put-without", one, {"ports": [{"port": 80}]}, put=True, fields={"spec.clusterIP": "10.96.9.9"}),
        update(V + "clusterIP-immutable", "singular", one, {"clusterIP": "10.96.9.10"}, f'spec.clusterIPs[0]: Invalid value: ["10.96.9.10"]: {FIXED}'),
        update(V + "clusterIP-immutable", "both", one, {"clusterIP": "10.96.9.10", "clusterIPs": ["10.96.9.10"]}, f'spec.clusterIPs[0]: Invalid value: ["10.96.9.10"]: {FIXED}'),
        update(V + "clusterIP-immutable", "to-none", one, {"clusterIP": "None"}, f'spec.clusterIPs[0]: Invalid value: ["None"]: {FIXED}'),
        update(V + "clusterIP-immutable", "from-none", HEADLESS, {"clusterIP": "10.96.9.10", "ipFamilies": None, "ipFamilyPolicy": SINGLE},
               f'spec.clusterIPs[0]: Invalid value: ["10.96.9.10"]: {FIXED}'),
        update(V + "clusterIP-immutable", "second", given, {"clusterIPs": ["10.96.9.9", "fd00:96::9a"]},
               f'spec.clusterIPs[1]: Invalid value: ["10.96.9.9","fd00:96::9a"]: {FIXED}', **v4v6),
        update(V + "secondary-dropped", "policy", given, {"clusterIPs": ["10.96.9.9"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": PREFER},
               NEEDS_SINGLE.format(PREFER, "cluster IP"), NEEDS_SINGLE.format(PREFER, "IP family"), **v4v6),
        update(V + "families-immutable", "primary", one, {"ipFamilies": ["IPv6"]},
               'spec.clusterIPs[0]: Invalid value: "10.96.9.9": expected an IPv6 value as indicated by `ipFamilies[0]`', **v4v6),
        update(V + "families-immutable", "swapped", given, {"ipFamilies": ["IPv6", "IPv4"]},
               'spec.clusterIPs[0]: Invalid value: "10.96.9.9": expected an IPv6 value as indicated by `ipFamilies[0]`',
               'spec.clusterIPs[1]: Invalid value: "fd00:96::99": expected an IPv4 value as indicated by `ipFamilies[1]`', **v4v6),
        update(V + "families-immutable", "headless-may", SELECTED, {"ipFamilies": ["IPv6"]}, **v4v6, fields=families("IPv6")),
    ]  # fmt: skip


CREATES, UPDATES = [*new_ones(), *cluster_rules(), *headless_and_allocator()], changes()
