"""Ingresses: whoever names no class gets the default one, as the admission plugin DefaultIngressClass gives it."""

from __future__ import annotations

from nodeport.api.meta import JsonObject
from nodeport.api.resources import INGRESS_CLASSES, INGRESSES
from nodeport.api.validation.ingresses import CLASS_ANNOTATION
from nodeport.apiserver.encoding import decode, prefix_of
from nodeport.apiserver.strategies.base import Strategy
from nodeport.store.base import Store

IS_DEFAULT = "ingressclass.kubernetes.io/is-default-class"


class IngressStrategy(Strategy):
    def __init__(self) -> None:
        super().__init__(INGRESSES)

    def initial_status(self, obj: JsonObject) -> JsonObject:
        return {"loadBalancer": {}}

    async def admit(self, obj: JsonObject, store: Store) -> None:
        annotations = obj["metadata"].get("annotations") or {}
        if obj["spec"].get("ingressClassName") is not None or CLASS_ANNOTATION in annotations:
            return
        listing = await store.list(prefix_of(INGRESS_CLASSES))
        chosen = default_class([decode(kv.value)["metadata"] for kv in listing.items])
        if chosen:
            obj["spec"]["ingressClassName"] = chosen


def default_class(metadata: list[JsonObject]) -> str:
    """The name of the default class among the classes' metadata: of several the youngest; empty when there is none."""
    marked = [each for each in metadata if (each.get("annotations") or {}).get(IS_DEFAULT) == "true"]
    by_name = sorted(marked, key=lambda each: each["name"])
    youngest = sorted(by_name, key=lambda each: each["creationTimestamp"], reverse=True)
    return str(youngest[0]["name"]) if youngest else ""
