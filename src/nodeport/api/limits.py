"""What LimitRanges fill into pods and refuse of them, in the words of Kubernetes' LimitRanger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from nodeport.api.meta import JsonObject
from nodeport.api.quantity import format_quantity, parse_quantity
from nodeport.api.quota import Usage, pod_amounts

ANNOTATION = "kubernetes.io/limit-ranger"
CLAIM = "PersistentVolumeClaim"


def items_of(limit_ranges: Iterable[JsonObject], kind: str) -> list[JsonObject]:
    """The limits of one type: ``Container`` or ``Pod``."""
    return [
        item
        for each in limit_ranges
        for item in (each.get("spec") or {}).get("limits") or []
        if item.get("type") == kind
    ]


def fill(limit_ranges: list[JsonObject], pod: JsonObject) -> None:
    """Give the containers the requests and limits that they do not have, and say so in an annotation."""
    told: list[str] = []
    spec = pod.get("spec") or {}
    for field, word in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(field) or []:
            told += _fill_container(items_of(limit_ranges, "Container"), container, word)
    if told:
        metadata = pod["metadata"]
        text = f"LimitRanger plugin set: {'; '.join(told)}"
        metadata["annotations"] = {**(metadata.get("annotations") or {}), ANNOTATION: text}


def _fill_container(items: list[JsonObject], container: JsonObject, word: str) -> Iterator[str]:
    resources = container.setdefault("resources", {})
    for field, default, kind in (("requests", "defaultRequest", "request"), ("limits", "default", "limit")):
        added: JsonObject = {}
        for item in items:
            for name, amount in (item.get(default) or {}).items():
                if name not in (resources.get(field) or {}):
                    added.setdefault(name, amount)
        if added:
            resources[field] = {**(resources.get(field) or {}), **added}
            yield f"{', '.join(sorted(added))} {kind} for {word} {container.get('name')}"


def complaints(limit_ranges: list[JsonObject], pod: JsonObject) -> list[str]:
    """Why the pod is refused; empty when it fits."""
    spec = pod.get("spec") or {}
    found: list[str] = []
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    for item in items_of(limit_ranges, "Container"):
        for container in containers:
            resources = container.get("resources") or {}
            found += _judge(
                item, "Container", _parsed(resources.get("requests")), _parsed(resources.get("limits"))
            )
    for item in items_of(limit_ranges, "Pod"):
        found += _judge(item, "Pod", pod_amounts(spec, "requests"), pod_amounts(spec, "limits"))
    return found


def claim_complaints(limit_ranges: list[JsonObject], claim: JsonObject) -> list[str]:
    """The same of a claim on a volume, which has requests only."""
    asked = _parsed(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    found: list[str] = []
    for item in items_of(limit_ranges, CLAIM):
        for name, text in sorted((item.get("min") or {}).items()):
            least = parse_quantity(str(text))
            found += _minimum(f"minimum {name} usage per {CLAIM} is {text}", least, asked.get(name), None)
        for name, text in sorted((item.get("max") or {}).items()):
            head, most, request = (
                f"maximum {name} usage per {CLAIM} is {text}",
                parse_quantity(str(text)),
                asked.get(name),
            )
            if request is None:
                found.append(f"{head}.  No request is specified")
            elif request > most:
                found.append(f"{head}, but request is {_shown(request)}")
    return found


def _parsed(amounts: JsonObject | None) -> Usage:
    return {name: parse_quantity(str(amount)) for name, amount in (amounts or {}).items()}


def _judge(item: JsonObject, kind: str, requests: Usage, limits: Usage) -> Iterator[str]:
    for name, text in sorted((item.get("min") or {}).items()):
        yield from _minimum(f"minimum {name} usage per {kind} is {text}", parse_quantity(str(text)),
                            requests.get(name), limits.get(name))  # fmt: skip
    for name, text in sorted((item.get("max") or {}).items()):
        yield from _maximum(f"maximum {name} usage per {kind} is {text}", parse_quantity(str(text)),
                            requests.get(name), limits.get(name))  # fmt: skip
    for name, text in sorted((item.get("maxLimitRequestRatio") or {}).items()):
        yield from _ratio(f"{name} max limit to request ratio per {kind} is {text}", parse_quantity(str(text)),
                          requests.get(name), limits.get(name))  # fmt: skip


def _shown(amount: Fraction) -> str:
    binary = amount.denominator == 1 and amount >= 1024 and not amount.numerator % 1024
    return format_quantity(amount, binary=binary)


def _minimum(head: str, least: Fraction, request: Fraction | None, limit: Fraction | None) -> Iterator[str]:
    if request is None:
        yield f"{head}.  No request is specified"
    elif request < least:
        yield f"{head}, but request is {_shown(request)}"
    if limit is not None and limit < least:
        yield f"{head}, but limit is {_shown(limit)}"


def _maximum(head: str, most: Fraction, request: Fraction | None, limit: Fraction | None) -> Iterator[str]:
    if limit is None:
        yield f"{head}.  No limit is specified"
    elif limit > most:
        yield f"{head}, but limit is {_shown(limit)}"
    if request is not None and request > most:
        yield f"{head}, but request is {_shown(request)}"


def _ratio(head: str, most: Fraction, request: Fraction | None, limit: Fraction | None) -> Iterator[str]:
    if not request:
        yield f"{head}, but no request is specified or request is 0"
    elif not limit:
        yield f"{head}, but no limit is specified or limit is 0"
    elif limit / request > most:
        yield f"{head}, but provided ratio is {float(limit / request):f}"
