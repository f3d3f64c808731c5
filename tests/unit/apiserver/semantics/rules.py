"""The rows of the behaviour's description, by section; each must have a case, and each case one of them."""

from __future__ import annotations

RULES: dict[str, tuple[str, ...]] = {
    "order": (
        "nodePort-before-validation", "families-before-validation", "again-with-nodePort", "again-with-clusterIP",
        "again-with-neither", "refusal-releases", "upsert", "put-unconditional", "delete-returns-object",
        "status-keeps-spec", "main-keeps-status", "no-generation", "dry-run-delete",
    ),
    "defaults": (
        "type", "sessionAffinity", "affinity-timeout", "protocol", "targetPort", "externalTrafficPolicy",
        "internalTrafficPolicy", "allocateLoadBalancerNodePorts", "ipMode", "ipFamilies",
    ),
    "families": (
        "normalize", "policy-default", "prefer-stays", "release-needs-single", "single-with-two", "clusterIP-family",
        "require-on-single", "family-not-configured", "headless-selectorless", "append-other", "single-truncates",
        "external-name", "transition",
    ),
    "validation": (
        "name", "ports-missing", "nodeport-headless", "external-name-fields", "external-name", "port-name-missing",
        "port-name", "port-number", "protocol", "target-port", "app-protocol", "selector", "labels", "annotations",
        "affinity", "affinity-config", "affinity-timeout", "type", "nodePort-on-clusterIP", "nodePort-duplicate",
        "port-duplicate", "external-ips", "source-ranges", "allocate", "lb-class", "etp-not-external", "etp", "hcnp",
        "hcnp-immutable", "itp", "distribution", "topology", "clusterIPs-mismatch", "clusterIPs-alone", "clusterIPs-list",
        "clusterIP-and-family", "ipFamilies", "ipFamilyPolicy", "clusterIP-immutable", "secondary-dropped",
        "families-immutable", "status-ingress", "not-validated", "metadata-update", "finalizers",
    ),
    "types": (
        "to-external-name", "drops-nodePorts", "drops-hcnp", "drops-lb-fields", "drops-etp", "to-nodePort",
        "nodePort-to-lb", "keeps-others", "load-balancer-ip", "changed-too",
    ),
    "warnings": (
        "hints", "headless", "externalIPs", "externalIPs-external-name", "externalName", "preferClose", "canonical",
        "nonstandard",
    ),
    "nodePort": (
        "share", "same-number", "different-port", "hcnp", "range", "taken", "duplicate", "update", "reapply", "lb-without",
        "dry-run", "protocols-on-update",
    ),
    "clusterIP": ("taken", "no-range", "network-address", "dry-run", "any"),
}  # fmt: skip

ALL = {f"{section}/{row}" for section, rows in RULES.items() for row in rows}
