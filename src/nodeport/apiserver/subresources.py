"""/scale, /binding and namespaces/finalize: small documents that stand for a part of an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from nodeport.api.managedfields.applying import Apply
from nodeport.api.managedfields.entries import Entries
from nodeport.api.managedfields.entries import decode as decode_entries
from nodeport.api.managedfields.entries import encode as encode_entries
from nodeport.api.managedfields.scale import from_scale, to_scale
from nodeport.api.meta import JsonObject, deep_copy
from nodeport.api.resources import GroupVersionKind
from nodeport.api.selectors import label_selector_of
from nodeport.api.status import (
    BadRequest,
    Conflict,
    PlainError,
    invalid,
    invalid_object,
    not_supported,
    required,
)
from nodeport.api.workloads import label_selector_form
from nodeport.apiserver.applies import applied, check_configuration, fit, read_configuration
from nodeport.apiserver.bodies import Body
from nodeport.apiserver.encoding import decode, encode
from nodeport.apiserver.fieldmanagers import SCALE_SCHEMA
from nodeport.apiserver.options import WriteOptions
from nodeport.apiserver.patches import APPLY_PATCH, Patch
from nodeport.apiserver.preconditions import check_uid, storage_fault
from nodeport.apiserver.registry import Registry, check_identity, check_namespace
from nodeport.apiserver.routes import Target
from nodeport.apiserver.writes import Own, Writer, Written
from nodeport.kit.clock import rfc3339

BINDING_SCHEMA = "io.k8s.api.core.v1.Binding"
BINDING = GroupVersionKind("", "v1", "Binding")
SCALE = GroupVersionKind("autoscaling", "v1", "Scale")


def scale_of(obj: JsonObject) -> JsonObject:
    """The Scale that stands for a workload; a ReplicationController's selector is a plain map."""
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: JsonObject = {"replicas": (obj.get("status") or {}).get("replicas") or 0}
    if selector := selector_text(label_selector_form(spec.get("selector") or {})):
        status["selector"] = selector
    found: JsonObject = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: metadata[field] for field in kept if field in metadata},
        "spec": {},
        "status": status,
    }
    if spec.get("replicas"):
        found["spec"]["replicas"] = spec["replicas"]
    return found


def selector_text(selector: JsonObject) -> str:
    """A LabelSelector as one string: ``app=web,tier in (a,b)``; terms in key order."""
    label_selector_of(selector)
    terms = {key: f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()}
    for expression in selector.get("matchExpressions") or []:
        key, values = expression["key"], ",".join(sorted(expression.get("values") or []))
        match expression["operator"]:
            case "In":
                term = f"{key} in ({values})"
            case "NotIn":
                term = f"{key} notin ({values})"
            case "Exists":
                term = key
            case _:
                term = f"!{key}"
        terms[term] = term
    return ",".join(terms[key] for key in sorted(terms))


class Subresources:
    def __init__(self, registry: Registry, writer: Writer) -> None:
        self._registry = registry
        self._writer = writer

    async def get_scale(self, target: Target) -> bytes:
        kv = await self._registry.find(target.resource, target.namespace, target.name)
        return encode(scale_of(self._registry.entry(target.resource).splicer.read(kv)))

    async def update_scale(self, target: Target, scale: JsonObject, options: WriteOptions) -> Written:
        check_identity(scale, target.resource, target.namespace, target.name)
        uid = (scale.get("metadata") or {}).get("uid") or ""

        def make(old: JsonObject) -> JsonObject:
            check_uid(target, old["metadata"]["uid"], uid)
            return scale

        return await self._change_scale(target, make, options, self._owned_by_change(target, options))

    async def patch_scale(self, target: Target, body: Body, options: WriteOptions) -> Written:
        if body.media_type == APPLY_PATCH:
            return await self._apply_scale(target, body.data, options)
        patch = Patch(SCALE_SCHEMA, body, options, SCALE)
        own = self._owned_by_change(target, options)
        return await self._change_scale(target, lambda old: patch.apply(scale_of(old)), options, own)

    def _owned_by_change(self, target: Target, options: WriteOptions) -> Own:
        strategy, clock = self._registry.entry(target.resource).strategy, self._registry.clock
        managers = self._writer.managers

        def own(old: JsonObject, new: JsonObject, _sent: Entries | None) -> Entries:
            before = (old, scale_of(old))
            return managers.scaled(strategy, before, scale_of(new), options.field_manager, clock.now())

        return own

    async def _apply_scale(self, target: Target, data: bytes, options: WriteOptions) -> Written:
        """Server-side apply of a Scale: of the number of replicas, that is."""
        config = read_configuration(data)
        scope = self._writer.managers.scope(self._registry.entry(target.resource).strategy, "scale")
        check_configuration(config.object, SCALE, scope)
        now = rfc3339(self._registry.clock.now())
        request = Apply(scope, config.object, options.field_manager, now, options.force)
        warned = config.warnings(options.field_validation)
        entries: Entries = []

        def make(old: JsonObject) -> JsonObject:
            nonlocal entries
            owners = decode_entries(old["metadata"].get("managedFields"))
            done = applied(request, scale_of(old), to_scale(owners))
            entries = encode_entries(from_scale(owners, done.owners, target.resource.api_version))
            fit(done.object, SCALE_SCHEMA, target.name)
            check_identity(done.object, target.resource, target.namespace, target.name)
            return done.object

        written = await self._change_scale(target, make, options, lambda _old, _new, _sent: entries)
        return replace(written, warnings=[*warned, *written.warnings])

    async def _change_scale(
        self, target: Target, make: Callable[[JsonObject], JsonObject], options: WriteOptions, own: Own
    ) -> Written:
        """``make``: the wanted Scale from the current object. ``own``: of the objects, not their Scales."""

        def change(old: JsonObject) -> JsonObject:
            scale = make(old)
            replicas = (scale.get("spec") or {}).get("replicas") or 0
            if replicas < 0:
                error = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
                raise invalid_object(SCALE, target.name, [error])
            new: JsonObject = deep_copy(old)
            asked = (scale.get("metadata") or {}).get("resourceVersion")
            new["metadata"]["resourceVersion"] = asked or ""
            new["spec"]["replicas"] = replicas
            return new

        whole = Target(target.resource, target.namespace, target.name)
        written = await self._writer.change(whole, change, options, own)
        return Written(encode(scale_of(decode(written.body))), warnings=written.warnings)

    async def bind(self, target: Target, binding: JsonObject, options: WriteOptions) -> JsonObject:
        """Give a pod its node, once."""
        meant = binding.setdefault("metadata", {})
        check_namespace(meant, target.resource, target.namespace)
        if meant.get("name") != target.name:
            raise BadRequest("name in URL does not match name in Binding object")
        node = _chosen_node(binding.get("target") or {})

        def change(old: JsonObject) -> JsonObject:
            _check_meant(target, meant, old["metadata"])
            if why := _why_not_bound(old):
                raise _binding_conflict(target.name, f"pod {target.name} {why}")
            new: JsonObject = deep_copy(old)
            new["metadata"]["resourceVersion"] = ""
            new["spec"]["nodeName"] = node
            for field in ("annotations", "labels"):
                if told := meant.get(field):
                    new["metadata"][field] = {**(new["metadata"].get(field) or {}), **told}
            mark_scheduled(new, self._registry)
            return new

        await self._writer.change(
            Target(target.resource, target.namespace, target.name, "binding"), change, options, unowned
        )
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}

    async def finalize(self, target: Target, body: JsonObject, options: WriteOptions) -> Written:
        """Replace a namespace's ``spec.finalizers``: with none left, a namespace that is being deleted goes."""
        check_identity(body, target.resource, "", target.name)
        finalizers = (body.get("spec") or {}).get("finalizers") or []
        asked = body["metadata"].get("resourceVersion") or ""

        def change(old: JsonObject) -> JsonObject:
            new: JsonObject = deep_copy(old)
            new["metadata"]["resourceVersion"] = asked
            new["spec"] = {"finalizers": finalizers} if finalizers else {}
            return new

        return await self._writer.change(target, change, options)


def _chosen_node(chosen: JsonObject) -> str:
    """The node that a binding names. Kubernetes tells what is wrong with one without a word for the failure."""
    kind, node = chosen.get("kind") or "", chosen.get("name") or ""
    errors = []
    if kind not in ("", "Node"):
        errors.append(not_supported("target.kind", kind, ("Node", "<empty>")))
    if not node:
        errors.append(required("target.name"))
    if errors:
        told = [str(error) for error in errors]
        raise PlainError(told[0] if len(told) == 1 else f"[{', '.join(told)}]")
    return str(node)


def _why_not_bound(pod: JsonObject) -> str:
    """What keeps a pod from being given a node; empty when nothing does."""
    if pod["metadata"].get("deletionTimestamp"):
        return "is being deleted, cannot be assigned to a host"
    if current := pod["spec"].get("nodeName"):
        return f'is already assigned to node "{current}"'
    return "has non-empty .spec.schedulingGates" if pod["spec"].get("schedulingGates") else ""


def _check_meant(target: Target, meant: JsonObject, found: JsonObject) -> None:
    """A binding may say which pod it means, and as of when."""
    for what, field in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
        asked = meant.get(field)
        if asked and asked != found[field]:
            raise _binding_conflict(target.name, storage_fault(target, what, asked, found[field]))


def _binding_conflict(name: str, why: str) -> Conflict:
    details = {"name": name, "kind": "pods/binding"}
    return Conflict(f'Operation cannot be fulfilled on pods/binding "{name}": {why}', details=details)


def unowned(old: JsonObject, new: JsonObject, sent: Entries | None) -> Entries:
    """The managers of an object after a write that is nobody's."""
    return old["metadata"].get("managedFields") or []


def mark_scheduled(pod: JsonObject, registry: Registry) -> None:
    status = pod.setdefault("status", {})
    status.pop("nominatedNodeName", None)
    conditions = [each for each in status.get("conditions") or [] if each.get("type") != "PodScheduled"]
    conditions.append(
        {
            "type": "PodScheduled", "status": "True", "lastProbeTime": None,
            "lastTransitionTime": rfc3339(registry.clock.now()),
        }
    )  # fmt: skip
    status["conditions"] = conditions
