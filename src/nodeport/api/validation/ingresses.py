"""Rules on Ingresses and IngressClasses (networking.k8s.io/v1)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nodeport.api import ip, names
from nodeport.api.meta import JsonObject
from nodeport.api.status import FieldError, forbidden, invalid, not_supported, required, too_long
from nodeport.api.validation.meta import immutable

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
LONGEST_CONTROLLER = 250
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_NEVER_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F")
_NEVER_AT_END = ("/..", "/.")
_CONTROLLER_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_is_controller_path = re.compile(rf"{_CONTROLLER_PATH}\Z").match
_NO_ADDRESS = "must be a DNS name, not an IP address"


def validate_ingress(obj: JsonObject) -> Iterator[FieldError]:
    yield from _content(obj)
    name = (obj.get("spec") or {}).get("ingressClassName")
    annotation = ((obj.get("metadata") or {}).get("annotations") or {}).get(CLASS_ANNOTATION)
    if annotation is not None and name is not None and annotation != name:
        why = "must match `ingressClassName` when both are specified"
        yield invalid(f"annotations.{CLASS_ANNOTATION}", annotation, why)


def validate_ingress_update(new: JsonObject, _old: JsonObject) -> Iterator[FieldError]:
    return _content(new)


def _content(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and backend is None:
        yield invalid("spec", spec.get("rules"), "either `defaultBackend` or `rules` must be specified")
    if backend is not None:
        yield from _backend(backend, "spec.defaultBackend")
    for index, rule in enumerate(rules):
        yield from _rule(rule, f"spec.rules[{index}]")
    for index, tls in enumerate(spec.get("tls") or []):
        yield from _tls(tls, f"spec.tls[{index}]")
    name = spec.get("ingressClassName")
    if name is not None:
        yield from (invalid("spec.ingressClassName", name, why) for why in names.dns_subdomain(name))


def _host(host: str, path: str) -> Iterator[FieldError]:
    check = names.wildcard_dns_subdomain if "*" in host else names.dns_subdomain
    yield from (invalid(path, host, why) for why in check(host))


def _rule(rule: JsonObject, path: str) -> Iterator[FieldError]:
    host = rule.get("host") or ""
    if host:
        if ip.sloppy_ip(host) is not None:
            yield invalid(f"{path}.host", host, _NO_ADDRESS)
        yield from _host(host, f"{path}.host")
    if rule.get("http") is None:
        return
    paths = rule["http"].get("paths") or []
    if not paths:
        yield required(f"{path}.http.paths")
    for index, each in enumerate(paths):
        yield from _path(each, f"{path}.http.paths[{index}]")


def _path(entry: JsonObject, path: str) -> Iterator[FieldError]:
    kind, text = entry.get("pathType"), entry.get("path") or ""
    if kind is None:
        yield required(f"{path}.pathType", "pathType must be specified")
        return
    if kind not in _PATH_TYPES:
        yield not_supported(f"{path}.pathType", kind, _PATH_TYPES)
    else:
        yield from _path_text(kind, text, f"{path}.path")
    yield from _backend(entry.get("backend") or {}, f"{path}.backend")


def _path_text(kind: str, text: str, path: str) -> Iterator[FieldError]:
    strict = kind != "ImplementationSpecific"
    if (strict or text) and not text.startswith("/"):
        yield invalid(path, text, "must be an absolute path")
    if not strict:
        return
    for part in _NEVER_IN_PATHS:
        if part in text:
            yield invalid(path, text, f"must not contain '{part}'")
    for part in _NEVER_AT_END:
        if text.endswith(part):
            yield invalid(path, text, f"cannot end with '{part}'")


def _backend(backend: JsonObject, path: str) -> Iterator[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        yield invalid(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        yield from _reference(resource, f"{path}.resource")
    elif service is not None:
        yield from _service_backend(service, path)
    else:
        yield invalid(path, "", "resource or service backend is required")


def _service_backend(service: JsonObject, path: str) -> Iterator[FieldError]:
    name, port = service.get("name") or "", service.get("port") or {}
    if not name:
        yield required(f"{path}.service.name")
    else:
        yield from (invalid(f"{path}.service.name", name, why) for why in names.dns_label(name))
    port_name, number = port.get("name") or "", port.get("number") or 0
    if port_name and number:
        yield invalid(path, "", "cannot set both port name & port number")
    elif port_name:
        where = f"{path}.service.port.name"
        yield from (invalid(where, port_name, why) for why in names.port_name(port_name))
    elif number:
        where = f"{path}.service.port.number"
        yield from (invalid(where, number, why) for why in names.port_number(number))
    else:
        yield required(path, "port name or number is required")


def _reference(reference: JsonObject, path: str) -> Iterator[FieldError]:
    """``{apiGroup, kind, name}``."""
    group = reference.get("apiGroup")
    if group is not None:
        yield from (invalid(f"{path}.apiGroup", group, why) for why in names.dns_subdomain(group))
    for field in ("kind", "name"):
        value = reference.get(field) or ""
        if not value:
            yield required(f"{path}.{field}")
        else:
            yield from (invalid(f"{path}.{field}", value, why) for why in names.path_segment(value))


def _tls(tls: JsonObject, path: str) -> Iterator[FieldError]:
    for index, host in enumerate(tls.get("hosts") or []):
        yield from _host(host, f"{path}.hosts[{index}]")
    secret = tls.get("secretName") or ""
    if secret:
        yield from (invalid(f"{path}.secretName", secret, why) for why in names.dns_subdomain(secret))


def validate_ingress_status(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    """Addresses that stood there before stay valid, however they are written."""
    before = {entry.get("ip") for entry in _balancer(old)}
    for index, entry in enumerate(_balancer(new)):
        path = f"status.loadBalancer.ingress[{index}]"
        address, hostname = entry.get("ip") or "", entry.get("hostname") or ""
        if address and address not in before:
            yield from (invalid(f"{path}.ip", address, why) for why in ip.ip_complaints(address))
        if hostname:
            yield from (invalid(f"{path}.hostname", hostname, why) for why in names.dns_subdomain(hostname))
            if ip.sloppy_ip(hostname) is not None:
                yield invalid(f"{path}.hostname", hostname, _NO_ADDRESS)


def _balancer(obj: JsonObject) -> list[JsonObject]:
    return ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def validate_ingress_class(obj: JsonObject) -> Iterator[FieldError]:
    spec = obj.get("spec") or {}
    controller = spec.get("controller") or ""
    if not controller:
        yield required("spec.controller")
    else:
        if len(controller.encode()) > LONGEST_CONTROLLER:
            yield too_long("spec.controller", LONGEST_CONTROLLER)
        yield from _domain_prefixed(controller, "spec.controller")
    if spec.get("parameters") is not None:
        yield from _parameters(spec["parameters"], "spec.parameters")


def validate_ingress_class_update(new: JsonObject, old: JsonObject) -> Iterator[FieldError]:
    controller, before = (
        (new.get("spec") or {}).get("controller") or "",
        (old.get("spec") or {}).get("controller") or "",
    )
    yield from immutable(controller, before, "spec.controller")
    yield from validate_ingress_class(new)


def _domain_prefixed(text: str, path: str) -> Iterator[FieldError]:
    host, _, rest = text.partition("/")
    if not host or not rest:
        yield invalid(path, text, 'must be a domain-prefixed path (such as "acme.io/foo")')
        return
    yield from (invalid(path, host, why) for why in names.dns_subdomain(host))
    if not _is_controller_path(rest):
        yield invalid(path, rest, f"Invalid path (regex used for validation is '{_CONTROLLER_PATH}')")


def _parameters(parameters: JsonObject, path: str) -> Iterator[FieldError]:
    yield from _reference(parameters, path)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        yield required(f"{path}.scope")
    elif scope not in ("Cluster", "Namespace"):
        yield not_supported(f"{path}.scope", scope, ("Cluster", "Namespace"))
    elif scope == "Namespace" and namespace is None:
        yield required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
    elif scope == "Namespace":
        yield from (invalid(f"{path}.namespace", namespace, why) for why in names.dns_label(namespace))
    elif namespace is not None:
        yield forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")
