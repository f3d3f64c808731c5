"""Requests that a client could send by mistake or malice, made from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import yaml

from nodeport.api import schema
from nodeport.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    RESOURCES,
    SERVICES,
    Resource,
)

MAX_DEPTH = 6
ENDLESS = "9" * 5000
"""More digits than Python reads as a number."""
OFTEN = (SERVICES, ENDPOINTS, ENDPOINT_SLICES, CONFIG_MAPS, DEPLOYMENTS)
WORDS = ("", "a", "web", "kubernetes", "default", "A_b", "-", "a" * 300, "10.96.0.1", "::1", "10.0.0.0/8", "None",
         "TCP", "ClusterIP", "NodePort", "é\u0000\u202e", "../..", "%2e%2e", "{}", "2026-01-01T00:00:00Z", "10m",
         "app.kubernetes.io/name", "\ud7ff", "0", "-1", "true", "null", ENDLESS)  # fmt: skip
NUMBERS = (
    0,
    1,
    -1,
    80,
    443,
    30000,
    30085,
    32767,
    32768,
    65535,
    65536,
    2**31,
    -(2**31) - 1,
    2**53,
    2**63,
    1.5,
)
CONTENT_TYPES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain", "",
                 "application/json; charset=utf-16", "application/merge-patch+json", "application/json-patch+json",
                 "application/strategic-merge-patch+json", "application/apply-patch+yaml", "multipart/form-data")  # fmt: skip
ACCEPTS = ("application/json", "*/*", "", "application/yaml", "text/html", "application/vnd.kubernetes.protobuf",
           "application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
           "application/json;as=Nothing;v=v1;g=x,application/json", ";;;,,,")  # fmt: skip
QUERIES = {
    "dryRun": ("All", "", "Some"), "fieldManager": ("fuzz", "", "x" * 200, "\u0001"), "force": ("true", "maybe"),
    "fieldValidation": ("Strict", "Warn", "Ignore", "Odd"), "pretty": ("true", "1"), "limit": ("1", "-1", "x"),
    "continue": ("abc", "e30", ""), "resourceVersion": ("0", "1", "-1", "x", ENDLESS), "timeoutSeconds": ("0", "-1", "x"),
    "resourceVersionMatch": ("Exact", "NotOlderThan", "Odd"), "labelSelector": ("a=b", "a in (", "!", "a>1,b<2", "=,="),
    "fieldSelector": ("metadata.name=a", "spec.type!=NodePort", "spec.foo=1", "a", "\\"), "gracePeriodSeconds": ("0", "-5", "x", str(2**62)),
    "propagationPolicy": ("Foreground", "Orphan", "Odd"), "orphanDependents": ("true", "x"),
    "sendInitialEvents": ("true", "x"), "allowWatchBookmarks": ("1", "x"), "includeObject": ("None", "Odd"),
    "container": ("main", ""), "tailLines": ("1", "-1", "x"),
}  # fmt: skip
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")


@dataclass(frozen=True)
class Wrong:
    """One request and where it came from."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Maker:
    """Objects by the schema, with faults, and requests around them. The same seed makes the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def request(self) -> Wrong:
        pick = self._random
        resource = pick.choice(OFTEN if pick.random() < 0.4 else RESOURCES)
        method = pick.choice(METHODS if pick.random() < 0.3 else ("GET", "POST", "PUT", "PATCH", "DELETE"))
        path = self.path(resource, method)
        headers = {"Accept": pick.choice(ACCEPTS)} if pick.random() < 0.4 else {}
        body = None
        if method in ("POST", "PUT", "PATCH", "DELETE") and pick.random() < 0.95:
            body, headers["Content-Type"] = self.body(resource, method)
        return Wrong(method, path + self.query(), body, headers)

    def path(self, resource: Resource, method: str) -> str:
        pick = self._random
        namespace = (
            pick.choice(("default", "default", "kube-system", "nowhere", "Bad_Name"))
            if resource.namespaced
            else ""
        )
        name = pick.choice(("web", "kubernetes", "a", "10.96.0.1", "Bad_Name", "a%2fb"))
        if method == "POST" or (method in ("GET", "DELETE") and pick.random() < 0.3):
            name = "" if pick.random() < 0.9 else name
        subs = [sub.name for sub in resource.subresources]
        sub = pick.choice([*subs, "nothing"]) if name and pick.random() < 0.3 else ""
        path = resource.path(namespace, name, sub)
        return path + pick.choice(("", "", "", "/", "//x")) if pick.random() < 0.1 else path

    def query(self) -> str:
        pick = self._random
        chosen = [key for key in QUERIES if pick.random() < 0.06]
        return "?" + "&".join(f"{key}={quote(pick.choice(QUERIES[key]))}" for key in chosen) if chosen else ""

    def body(self, resource: Resource, method: str) -> tuple[bytes, str]:
        pick = self._random
        if method == "DELETE":
            found: Any = self.of(schema.schema_of("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"), 2)
        else:
            found = self.object(resource)
        if method == "PATCH":
            kind = pick.choice(CONTENT_TYPES[6:10])
            if kind.endswith("json-patch+json"):
                found = [
                    {"op": pick.choice(("add", "remove", "replace", "test", "move", "copy", "odd")),
                     "path": pick.choice(("/spec", "/metadata/labels/a", "/spec/ports/-", "spec", "/~2", "/metadata/name")),
                     "from": "/spec", "value": self.value(2)}
                    for _ in range(pick.randrange(3))
                ]  # fmt: skip
        else:
            kind = pick.choice(CONTENT_TYPES[:3]) if pick.random() < 0.9 else pick.choice(CONTENT_TYPES)
        return self.mangled(self.encoded(found, kind)), kind

    def encoded(self, found: Any, kind: str) -> bytes:
        if kind == "application/vnd.kubernetes.protobuf":
            noise = bytes(self._random.randrange(256) for _ in range(self._random.randrange(80)))
            return b"k8s\x00\n\x0b\n\x02v1\x12\x05Event\x12" + bytes([len(noise)]) + noise
        if "yaml" in kind and self._random.random() < 0.5:
            return yaml.safe_dump(found).encode()
        return json.dumps(found).encode("utf-8", "surrogatepass")

    def mangled(self, data: bytes) -> bytes:
        """Sometimes cut, doubled, flipped or nested deeply."""
        pick = self._random
        faults: list[Callable[[bytes], bytes]] = [
            lambda data: data[: pick.randrange(len(data) + 1)],
            lambda data: data + data,
            lambda data: bytes([*data[:5], pick.randrange(256), *data[6:]]),
            lambda data: b'{"a":' * 5000 + b"1" + b"}" * 5000,
            lambda data: b"[" * 100_000,
            lambda data: b"\xff\xfe" + data,
            lambda data: data.replace(b'"metadata"', b'"metadata":{},"metadata"', 1),
        ]
        return pick.choice(faults)(data) if pick.random() < 0.15 else data

    def object(self, resource: Resource) -> Any:
        found = self.of(schema.schema_of(resource.schema), 0)
        if isinstance(found, dict) and self._random.random() < 0.9:
            found["apiVersion"], found["kind"] = resource.api_version, resource.kind
            metadata = found.get("metadata")
            found["metadata"] = metadata if isinstance(metadata, dict) else {}
            found["metadata"]["name"] = self._random.choice(("web", "a", "b", "kubernetes"))
            for key in ("namespace", "resourceVersion", "uid"):
                if self._random.random() < 0.9:
                    found["metadata"].pop(key, None)
        return found

    def value(self, depth: int) -> Any:
        pick = self._random
        match pick.randrange(7 if depth < MAX_DEPTH else 4):
            case 0:
                return pick.choice(WORDS)
            case 1:
                return pick.choice(NUMBERS)
            case 2:
                return pick.random() < 0.5
            case 3:
                return None
            case 4:
                return [self.value(depth + 1) for _ in range(pick.randrange(3))]
            case _:
                return {pick.choice(WORDS): self.value(depth + 1) for _ in range(pick.randrange(3))}

    def of(self, node: dict[str, Any], depth: int) -> Any:
        """A value for a schema: right by type nine times out of ten."""
        pick = self._random
        node = schema.resolve(node)
        if pick.random() < 0.04 or depth > MAX_DEPTH:
            return self.value(depth)
        if "properties" in node:
            chance = 0.5 if depth < 3 else 0.25
            fields = node["properties"].items()
            made = {name: self.of(sub, depth + 1) for name, sub in fields if pick.random() < chance}
            if pick.random() < 0.03:
                made[pick.choice(WORDS)] = self.value(depth)
            return made
        match node.get("type"):
            case "array":
                return [self.of(node["items"], depth + 1) for _ in range(pick.randrange(3))]
            case "object":
                below = node.get("additionalProperties") or {}
                return {pick.choice(WORDS): self.of(below, depth + 1) for _ in range(pick.randrange(3))}
            case "integer" | "number":
                return pick.choice(NUMBERS)
            case "boolean":
                return pick.random() < 0.5
            case "string":
                return pick.choice((*WORDS, 80) if node.get("format") == "int-or-string" else WORDS)
        return self.value(depth)
