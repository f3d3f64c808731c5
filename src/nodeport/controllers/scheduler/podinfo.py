"""A pod as the scheduler looks at it: what it asks for and whom it wants near, worked out once. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace

from nodeport.api.meta import JsonObject, controller_of, is_being_deleted, labels
from nodeport.api.nodeaffinity import REQUIRED
from nodeport.api.podneeds import HostPort, Resources, host_ports_of, requests_of
from nodeport.api.selectors import LabelSelector, Operator, Requirement, label_selector_of

PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

_LEAST_ASSUMED = {"cpu": 100, "memory": 200 * 1024 * 1024 * 1000}
"""What a container that names no request counts for when nodes are compared: a tenth of a core and 200 MiB."""


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a pod's affinity or anti-affinity: about pods that ``selector`` selects, in ``namespaces`` or in
    one whose labels ``namespace_selector`` selects, on nodes with the same value of the label ``topology``.
    """

    topology: str
    namespaces: frozenset[str]
    namespace_selector: LabelSelector | None
    selector: LabelSelector
    weight: int = 0

    def is_about(self, other: PodInfo, namespace_labels: Mapping[str, str]) -> bool:
        """``namespace_labels`` are those of ``other``'s namespace."""
        is_there = other.namespace in self.namespaces or (
            self.namespace_selector is not None and self.namespace_selector.matches(namespace_labels)
        )
        return is_there and self.selector.matches(other.labels)


@dataclass(frozen=True, slots=True)
class PodInfo:
    """``kin`` is the uid of its controller, empty for none; ``leaving``: it is being deleted. Pods of one ``group``
    are alike to every other pod's rules: those of one template, mostly.
    """

    pod: JsonObject
    namespace: str
    labels: Mapping[str, str]
    leaving: bool
    priority: int
    kin: str
    requests: Resources
    assumed: Resources
    host_ports: tuple[HostPort, ...]
    affinity: tuple[Term, ...]
    anti_affinity: tuple[Term, ...]
    liked: tuple[Term, ...]
    disliked: tuple[Term, ...]
    group: Hashable

    @classmethod
    def of(cls, pod: JsonObject) -> PodInfo:
        reference = controller_of(pod)
        affinity = pod["spec"].get("affinity") or {}
        near, far = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
        kin = str(reference["uid"]) if reference is not None else ""
        namespace, leaving = pod["metadata"]["namespace"], is_being_deleted(pod)
        terms = (_required(near, pod), _required(far, pod), _preferred(near, pod), _preferred(far, pod))
        return cls(
            pod=pod,
            namespace=namespace,
            labels=labels(pod),
            leaving=leaving,
            priority=pod["spec"].get("priority") or 0,
            kin=kin,
            requests=requests_of(pod),
            assumed=requests_of(pod, _LEAST_ASSUMED),
            host_ports=host_ports_of(pod),
            affinity=terms[0],
            anti_affinity=terms[1],
            liked=terms[2],
            disliked=terms[3],
            group=(namespace, frozenset(labels(pod).items()), leaving, kin, *terms),
        )

    @property
    def has_terms(self) -> bool:
        return bool(self.affinity or self.anti_affinity or self.liked or self.disliked)


def _required(affinity: JsonObject, pod: JsonObject) -> tuple[Term, ...]:
    return tuple(_term(term, pod) for term in affinity.get(REQUIRED) or ())


def _preferred(affinity: JsonObject, pod: JsonObject) -> tuple[Term, ...]:
    return tuple(
        replace(_term(each["podAffinityTerm"], pod), weight=each["weight"])
        for each in affinity.get(PREFERRED) or ()
    )


def _term(term: JsonObject, pod: JsonObject) -> Term:
    """Without namespaces and without a selector for them a term is about the pod's own namespace; an empty
    selector for them means all.
    """
    namespaces, by_labels = term.get("namespaces") or (), term.get("namespaceSelector")
    own = () if namespaces or by_labels is not None else (pod["metadata"]["namespace"],)
    narrowed = narrowed_selector(
        term.get("labelSelector"),
        labels(pod),
        term.get("matchLabelKeys") or (),
        term.get("mismatchLabelKeys") or (),
    )
    return Term(
        topology=term.get("topologyKey") or "",
        namespaces=frozenset((*namespaces, *own)),
        namespace_selector=None if by_labels is None else label_selector_of(by_labels),
        selector=narrowed,
    )


def narrowed_selector(
    selector: JsonObject | None, own: Mapping[str, str], same: Iterable[str], other: Iterable[str] = ()
) -> LabelSelector:
    """``selector``, and the pod's ``own`` value of the labels ``same``, and not its own of the labels ``other``; a
    label that the pod lacks adds nothing.
    """
    made = label_selector_of(selector)
    if selector is None:
        return made
    more = [Requirement(key, Operator.IN, (own[key],)) for key in same if key in own]
    more += [Requirement(key, Operator.NOT_IN, (own[key],)) for key in other if key in own]
    return LabelSelector((*made.requirements, *more)) if more else made
