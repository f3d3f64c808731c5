"""Rules on Pods and pod templates, in the order in which the Kubernetes API reports them (``ValidatePodSpec``)."""

from __future__ import annotations

from collections.abc import Iterator

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, forbidden, invalid, not_supported, required
from nodeport.api.validation.amounts import validate_amounts
from nodeport.api.validation.containers import validate_containers, validate_image_of_pod
from nodeport.api.validation.meta import validate_labels
from nodeport.api.validation.podsecurity import validate_host_users, validate_pod_security
from nodeport.api.validation.scheduling import (
    validate_affinity,
    validate_gates,
    validate_spread,
    validate_tolerations,
)
from nodeport.api.validation.volumes import validate_volumes

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")
_MOST_SECONDS = 2**31 - 1
_MOST_NAMESERVERS, _MOST_SEARCHES, _LONGEST_SEARCH_LIST = 3, 32, 2048


def validate_pod(pod: JsonObject) -> Iterator[FieldError]:
    """A new, defaulted pod."""
    yield from validate_pod_content(pod)
    spec = pod.get("spec") or {}
    if spec.get("ephemeralContainers"):
        yield forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        yield forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")


def validate_pod_content(pod: JsonObject) -> Iterator[FieldError]:
    """What holds for pods, new or old, and not for templates too."""
    spec = pod.get("spec") or {}
    yield from validate_pod_spec(spec, "spec", is_pod=True)
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or []):
            yield from validate_image_of_pod(container, f"spec.{field}[{index}]")


def validate_pod_spec(spec: JsonObject, path: str, *, is_pod: bool = False) -> Iterator[FieldError]:
    """A defaulted ``PodSpec``, of a pod or of a template."""
    volumes: dict[str, JsonObject] = {}
    yield from validate_volumes(spec.get("volumes") or [], f"{path}.volumes", volumes)
    yield from validate_containers(spec, path, volumes)
    if spec.get("resources"):
        yield from validate_amounts(spec["resources"], f"{path}.resources")
    yield from _host_network(spec, path, is_pod=is_pod)
    yield from _policy(spec.get("restartPolicy"), _RESTART_POLICIES, f"{path}.restartPolicy")
    yield from _policy(spec.get("dnsPolicy"), _DNS_POLICIES, f"{path}.dnsPolicy")
    yield from validate_labels(spec.get("nodeSelector") or {}, f"{path}.nodeSelector")
    yield from validate_pod_security(spec, path)
    yield from validate_affinity(spec.get("affinity") or {}, f"{path}.affinity")
    yield from _dns_config(spec, f"{path}.dnsConfig")
    yield from validate_gates(spec, path)
    yield from validate_spread(
        spec.get("topologySpreadConstraints") or [], f"{path}.topologySpreadConstraints"
    )
    yield from validate_host_users(spec, path)
    yield from _names_and_times(spec, path)
    if spec.get("preemptionPolicy") is not None:
        yield from _policy(spec["preemptionPolicy"], _PREEMPTION_POLICIES, f"{path}.preemptionPolicy")
    if spec.get("overhead"):
        yield from validate_amounts({"limits": spec["overhead"]}, f"{path}.overhead")
    yield from _operating_system(spec.get("os"), f"{path}.os")


def _policy(value: str | None, allowed: tuple[str, ...], path: str) -> Iterator[FieldError]:
    if not value:
        yield required(path)
    elif value not in allowed:
        yield not_supported(path, value, allowed)


def _host_network(spec: JsonObject, path: str, *, is_pod: bool) -> Iterator[FieldError]:
    """On the node's network a port is the node's; a template's is completed when its pods are made."""
    if not spec.get("hostNetwork"):
        return
    for at, container in enumerate(spec.get("containers") or []):
        for index, port in enumerate(container.get("ports") or []):
            number = port.get("hostPort") or 0
            if (is_pod or number) and number != (port.get("containerPort") or 0):
                where = f"{path}.containers[{at}].ports[{index}].hostPort"
                yield invalid(where, number, "must match `containerPort` when `hostNetwork` is true")


def _dns_config(spec: JsonObject, path: str) -> Iterator[FieldError]:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            yield required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
            return
        if not config.get("nameservers"):
            detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            yield required(f"{path}.nameservers", detail)
            return
    if config is None:
        return
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > _MOST_NAMESERVERS:
        detail = f"must not have more than {_MOST_NAMESERVERS} nameservers"
        yield invalid(f"{path}.nameservers", servers, detail)
    for index, server in enumerate(servers):
        yield from (invalid(f"{path}.nameservers[{index}]", server, why) for why in ip.ip_complaints(server))
    yield from _searches(searches, f"{path}.searches")
    for index, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            yield required(f"{path}.options[{index}]", "must not be empty")


def _searches(searches: list[str], path: str) -> Iterator[FieldError]:
    if len(searches) > _MOST_SEARCHES:
        yield invalid(path, searches, f"must not have more than {_MOST_SEARCHES} search paths")
    if len(" ".join(searches).encode()) > _LONGEST_SEARCH_LIST:
        detail = (
            f"must not have more than {_LONGEST_SEARCH_LIST} characters (including spaces) in the search list"
        )
        yield invalid(path, searches, detail)
    for index, search in enumerate(searches):
        if search == ".":
            continue
        bare = search.removesuffix(".")
        yield from (
            invalid(f"{path}[{index}]", bare, why) for why in names.dns_subdomain_with_underscores(bare)
        )


def _names_and_times(spec: JsonObject, path: str) -> Iterator[FieldError]:
    yield from _name(spec, "serviceAccountName", path)
    yield from _name(spec, "nodeName", path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MOST_SECONDS:
        detail = f"must be between 1 and {_MOST_SECONDS}, inclusive"
        yield invalid(f"{path}.activeDeadlineSeconds", deadline, detail)
    for field in ("hostname", "subdomain"):
        label = spec.get(field) or ""
        for why in names.dns_label(label) if label else ():
            yield invalid(f"{path}.{field}", label, why)
    yield from validate_tolerations(spec.get("tolerations") or [], f"{path}.tolerations")
    for index, alias in enumerate(spec.get("hostAliases") or []):
        yield from _host_alias(alias, f"{path}.hostAliases[{index}]")
    yield from _name(spec, "priorityClassName", path)
    yield from _name(spec, "runtimeClassName", path)


def _name(spec: JsonObject, field: str, path: str) -> Iterator[FieldError]:
    value = spec.get(field) or ""
    for why in names.dns_subdomain(value) if value else ():
        yield invalid(f"{path}.{field}", value, why)


def _host_alias(alias: JsonObject, path: str) -> Iterator[FieldError]:
    address = alias.get("ip") or ""
    yield from (invalid(f"{path}.ip", address, why) for why in ip.ip_complaints(address))
    for index, name in enumerate(alias.get("hostnames") or []):
        yield from (invalid(f"{path}.hostnames[{index}]", name, why) for why in names.dns_subdomain(name))


def _operating_system(system: JsonObject | None, path: str) -> Iterator[FieldError]:
    if system is None:
        return
    name = system.get("name") or ""
    if not name:
        yield required(f"{path}.name", "cannot be empty")
    elif name not in ("linux", "windows"):
        yield not_supported(path, name, ("linux", "windows"))
