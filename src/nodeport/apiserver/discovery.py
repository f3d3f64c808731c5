"""What the server serves, said in the two forms that clients ask for."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from nodeport.api.meta import JsonObject
from nodeport.api.resources import GroupVersionKind, Resource, Subresource

_GROUP_ORDER = ("", "apps", "events.k8s.io", "networking.k8s.io", "coordination.k8s.io", "discovery.k8s.io")


class Discovery:
    """All documents, made once from the resource table."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._rows = tuple(resources)
        found = {(row.group, row.version) for row in self._rows}
        self.group_versions = tuple(sorted(found, key=_rank))

    def core_versions(self, address: str) -> JsonObject:
        """GET /api. ``address``: HOST:PORT of this server, for every client."""
        places = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": places}

    def groups(self) -> JsonObject:
        """GET /apis."""
        found = [self._group(group, version) for group, version in self.group_versions if group]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}

    def group(self, name: str) -> JsonObject | None:
        """GET /apis/{group}."""
        for group, version in self.group_versions:
            if group == name and group:
                return {"kind": "APIGroup", "apiVersion": "v1", **self._group(group, version)}
        return None

    @staticmethod
    def _group(group: str, version: str) -> JsonObject:
        entry = {"groupVersion": f"{group}/{version}", "version": version}
        return {"name": group, "versions": [entry], "preferredVersion": entry}

    def resources(self, group: str, version: str) -> JsonObject | None:
        """GET /api/v1 and /apis/{group}/{version}."""
        rows = [row for row in self._rows if (row.group, row.version) == (group, version)]
        if not rows:
            return None
        found = []
        for row in sorted(rows, key=lambda row: row.plural):
            found.append(_legacy_resource(row))
            found.extend(_legacy_subresource(row, sub) for sub in row.subresources)
        api_version = f"{group}/{version}" if group else version
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": api_version,
            "resources": found,
        }

    def aggregated(self, version: str, *, core: bool) -> JsonObject:
        """GET /api or /apis as an APIGroupDiscoveryList; ``version`` is ``v2`` or ``v2beta1``."""
        items = [
            self._aggregated_group(group, found)
            for group, found in self.group_versions
            if (not group) is core
        ]
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{version}",
            "metadata": {},
            "items": items,
        }

    def _aggregated_group(self, group: str, version: str) -> JsonObject:
        rows = sorted(
            (row for row in self._rows if (row.group, row.version) == (group, version)),
            key=lambda row: row.plural,
        )
        metadata: JsonObject = {"name": group} if group else {}
        return {
            "metadata": metadata,
            "versions": [
                {
                    "version": version,
                    "resources": [_aggregated_resource(row) for row in rows],
                    "freshness": "Current",
                }
            ],
        }


def _rank(group_version: tuple[str, str]) -> tuple[int, str]:
    group = group_version[0]
    return (_GROUP_ORDER.index(group) if group in _GROUP_ORDER else len(_GROUP_ORDER), group)


def _storage_hash(row: Resource) -> str:
    digest = hashlib.sha256(f"{row.group}/{row.version}/{row.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _legacy_resource(row: Resource) -> JsonObject:
    found: JsonObject = {
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced, "kind": row.kind,
        "verbs": list(row.verbs),
    }  # fmt: skip
    if row.short_names:
        found["shortNames"] = list(row.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    found["storageVersionHash"] = _storage_hash(row)
    return found


def _legacy_subresource(row: Resource, sub: Subresource) -> JsonObject:
    found: JsonObject = {
        "name": f"{row.plural}/{sub.name}", "singularName": "", "namespaced": row.namespaced,
        "kind": (sub.kind or row.gvk).kind, "verbs": list(sub.verbs),
    }  # fmt: skip
    if sub.kind is not None and (sub.kind.group, sub.kind.version) != (row.group, row.version):
        found["group"], found["version"] = sub.kind.group, sub.kind.version
    return found


def _kind(gvk: GroupVersionKind) -> JsonObject:
    return {"group": gvk.group, "version": gvk.version, "kind": gvk.kind}


def _aggregated_resource(row: Resource) -> JsonObject:
    found: JsonObject = {
        "resource": row.plural,
        "responseKind": _kind(row.gvk),
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        found["shortNames"] = list(row.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    if row.subresources:
        found["subresources"] = [
            {"subresource": sub.name, "responseKind": _kind(sub.kind or row.gvk), "verbs": list(sub.verbs)}
            for sub in row.subresources
        ]
    return found
