"""What a rule of a Role allows, and whether rules cover one another.

Rules: ``rbac.authorization.k8s.io/v1`` of Kubernetes 1.36: a rule lists verbs and either resources of API groups
(``pods``, ``pods/log``, ``*/scale``, ``*``), perhaps only some by name, or URL paths (``/healthz``, ``/api/*``, ``*``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nodeport.api.meta import JsonObject
from nodeport.api.selectors import label_selector_of

GROUP = "rbac.authorization.k8s.io"
ALL = "*"
USER, GROUP_KIND, SERVICE_ACCOUNT = "User", "Group", "ServiceAccount"
SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
AUTO_UPDATE = "rbac.authorization.kubernetes.io/autoupdate"
MOST_PARTS = 20_000
"""Of one role, each with one verb and one resource: a few kilobytes of words can stand for millions."""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """``resources`` may name a subresource: ``pods/log``, ``*/scale``. No ``resource_names``: objects of any name."""

    verbs: tuple[str, ...] = ()
    api_groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resource_names: tuple[str, ...] = ()
    non_resource_urls: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, rule: JsonObject) -> PolicyRule:
        return cls(*(tuple(rule.get(field) or ()) for field in _FIELDS))

    def to_json(self) -> JsonObject:
        values = (self.verbs, self.api_groups, self.resources, self.resource_names, self.non_resource_urls)
        return {field: list(value) for field, value in zip(_FIELDS, values, strict=True) if value}

    def __str__(self) -> str:
        """How refusals show a rule: ``{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}``."""
        shown = (
            ("APIGroups", self.api_groups), ("Resources", self.resources), ("NonResourceURLs", self.non_resource_urls),
            ("ResourceNames", self.resource_names), ("Verbs", self.verbs),
        )  # fmt: skip
        return "{" + ", ".join(f"{name}:{quoted(values)}" for name, values in shown if values) + "}"


_FIELDS = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")


def quoted(words: Iterable[str]) -> str:
    """``["a" "b"]``."""
    return f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"


def rules_of(role: JsonObject) -> tuple[PolicyRule, ...]:
    """The rules of a Role or ClusterRole."""
    return tuple(PolicyRule.from_json(rule) for rule in role.get("rules") or ())


def concerns(rule: PolicyRule, verb: str, group: str, resource: str) -> bool:
    """Whether a rule speaks of the verb on ``resource`` (``pods`` or ``pods/log``), whatever the object's name."""
    if verb not in rule.verbs and ALL not in rule.verbs:
        return False
    if group not in rule.api_groups and ALL not in rule.api_groups:
        return False
    if resource in rule.resources or ALL in rule.resources:
        return True
    _, slash, subresource = resource.partition("/")
    return bool(slash) and f"*/{subresource}" in rule.resources


def allows_path(rule: PolicyRule, verb: str, path: str) -> bool:
    if verb not in rule.verbs and ALL not in rule.verbs:
        return False
    return any(_url_covers(url, path) for url in rule.non_resource_urls)


def _url_covers(url: str, path: str) -> bool:
    return url in (ALL, path) or (url.endswith(ALL) and path.startswith(url.rstrip(ALL)))


# Covering: may someone who holds these rules hand out those?


def uncovered(held: Sequence[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """The parts of ``wanted`` that no rule of ``held`` contains whole; alike ones put together.

    A rule of very many parts is not broken down: it counts as missing unless one rule contains it whole.
    """
    missing, large, left = [], [], MOST_PARTS
    for rule in wanted:
        if any(_covers_whole(own, rule) for own in held):
            continue
        left -= _count_of_parts(rule)
        if left < 0:
            large.append(rule)
            break
        missing += [part for part in _broken_down(rule) if not any(_covers(own, part) for own in held)]
    return [*_put_together(missing), *large]


def _count_of_parts(rule: PolicyRule) -> int:
    objects = len(rule.api_groups) * len(rule.resources) * max(1, len(rule.resource_names))
    return len(rule.verbs) * (objects + len(rule.non_resource_urls))


def _covers_whole(own: PolicyRule, rule: PolicyRule) -> bool:
    """Whether that can be seen word by word; a no says nothing."""
    if own.resource_names or rule.non_resource_urls:
        return False
    pairs = ((own.verbs, rule.verbs), (own.api_groups, rule.api_groups), (own.resources, rule.resources))
    return all(ALL in has or set(has).issuperset(asked) for has, asked in pairs)


def _broken_down(rule: PolicyRule) -> Iterator[PolicyRule]:
    """Rules with one verb and one resource, object or URL each."""
    for verb in rule.verbs:
        for group in rule.api_groups:
            for resource in rule.resources:
                if not rule.resource_names:
                    yield PolicyRule((verb,), (group,), (resource,))
                for name in rule.resource_names:
                    yield PolicyRule((verb,), (group,), (resource,), (name,))
        for url in rule.non_resource_urls:
            yield PolicyRule((verb,), non_resource_urls=(url,))


def _covers(own: PolicyRule, part: PolicyRule) -> bool:
    """``part`` is broken down."""
    if part.non_resource_urls:
        return allows_path(own, part.verbs[0], part.non_resource_urls[0])
    if own.resource_names and (not part.resource_names or part.resource_names[0] not in own.resource_names):
        return False
    return concerns(own, part.verbs[0], part.api_groups[0], part.resources[0])


def _put_together(parts: Iterable[PolicyRule]) -> list[PolicyRule]:
    verbs: dict[PolicyRule, dict[str, None]] = {}
    for part in parts:
        about = PolicyRule((), part.api_groups, part.resources, part.resource_names, part.non_resource_urls)
        verbs.setdefault(about, {})[part.verbs[0]] = None
    return [
        PolicyRule(
            tuple(found),
            about.api_groups,
            about.resources,
            about.resource_names,
            about.non_resource_urls,
        )
        for about, found in verbs.items()
    ]


# Aggregation


def is_aggregated(role: JsonObject) -> bool:
    return bool((role.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def aggregated_rules(role: JsonObject, others: Iterable[JsonObject]) -> list[JsonObject]:
    """The rules that an aggregated ClusterRole must have: those of the roles that its selectors choose, by name,
    each rule once."""
    selectors = [label_selector_of(each) for each in role["aggregationRule"]["clusterRoleSelectors"]]
    found: dict[PolicyRule, None] = {}
    for other in sorted(others, key=lambda each: str(each["metadata"]["name"])):
        metadata = other["metadata"]
        if metadata["name"] == role["metadata"]["name"]:
            continue
        if any(selector.matches(metadata.get("labels") or {}) for selector in selectors):
            found.update(dict.fromkeys(rules_of(other)))
    return [rule.to_json() for rule in found]


# Subjects


def subject_key(subject: JsonObject, namespace: str) -> tuple[str, str]:
    """(``User`` or ``Group``, name) of a binding's subject; ``namespace``: the binding's, empty for a cluster's.

    A ServiceAccount without a namespace is of the binding's; without one at all it is nobody: an empty name.
    """
    if subject.get("kind") != SERVICE_ACCOUNT:
        return (subject.get("kind") or "", subject.get("name") or "")
    home = subject.get("namespace") or namespace
    return (USER, f"{SERVICE_ACCOUNT_PREFIX}{home}:{subject.get('name') or ''}" if home else "")
