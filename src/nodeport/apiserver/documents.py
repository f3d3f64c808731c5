"""What is no object: discovery, OpenAPI, version, health, metrics."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable

from aiohttp import web

from nodeport import KUBERNETES_VERSION
from nodeport.api.meta import JsonObject
from nodeport.apiserver.discovery import Discovery
from nodeport.apiserver.encoding import encode
from nodeport.apiserver.health import HEALTH_PATHS, Health
from nodeport.apiserver.metrics import Metrics
from nodeport.apiserver.negotiation import wants_discovery
from nodeport.apiserver.openapi import OpenApi
from nodeport.apiserver.requests import Address

NO_COMMIT = "0" * 40
"""As git says that there is none: clients, those of the conformance suite among them, read a hexadecimal number."""


def version() -> JsonObject:
    """GET /version: the Kubernetes release whose behaviour is served."""
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    return {
        "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
        "minCompatibilityMajor": major, "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"{KUBERNETES_VERSION}+nodeport",
        "gitCommit": NO_COMMIT, "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}", "compiler": platform.python_implementation().lower(),
        "platform": f"{platform.system().lower()}/{_architecture()}",
    }  # fmt: skip


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


class Documents:
    """``is_started`` and ``store_is_good`` decide what /readyz says; nothing that a new start would mend, so that
    /livez knows nothing of them. ``address``: where clients find this server."""

    def __init__(
        self,
        discovery: Discovery,
        openapi: OpenApi,
        metrics: Metrics,
        is_started: Callable[[], bool],
        store_is_good: Callable[[], bool],
        address: Callable[[], str],
    ) -> None:
        self._address = address
        self._discovery = discovery
        self._openapi = openapi
        self._metrics = metrics
        self._health = Health({"ping": lambda: True, "store": store_is_good, "started": is_started})
        self._made: dict[str, tuple[str, Callable[[], JsonObject]]] = {}
        self._fixed: dict[str, bytes] = {
            "/apis": encode(discovery.groups()),
            "/version": encode(version()),
        }
        for group, found in discovery.group_versions:
            path = f"/apis/{group}/{found}" if group else f"/api/{found}"
            self._fixed[path] = encode(discovery.resources(group, found))
            if group:
                self._fixed[f"/apis/{group}"] = encode(discovery.group(group))
        paths = sorted({*self._fixed, "/api", *HEALTH_PATHS, "/metrics", "/openapi/v2", "/openapi/v3"})
        self._fixed["/"] = encode({"paths": paths})

    def add(self, path: str, content_type: str, make: Callable[[], JsonObject]) -> None:
        """A further document, made when it is asked for."""
        self._made[path] = (content_type, make)

    def knows(self, path: str) -> bool:
        return (
            path == "/api"
            or path in self._fixed
            or path in self._made
            or path == "/metrics"
            or self._openapi.knows(path)
            or self._health.knows(path)
        )

    async def answer(self, request: web.BaseRequest, address: Address) -> web.Response:
        path = address.path
        if path in ("/api", "/apis"):
            wanted = wants_discovery(request.headers.get("Accept", ""))
            if wanted:
                return self._aggregated(request, wanted, core=path == "/api")
        if path == "/api":
            body = encode(self._discovery.core_versions(self._address()))
            return web.Response(body=body, content_type="application/json", headers={"Vary": "Accept"})
        if path in self._fixed:
            headers = {"Vary": "Accept"} if path == "/apis" else None
            return web.Response(body=self._fixed[path], content_type="application/json", headers=headers)
        if path in self._made:
            content_type, make = self._made[path]
            return web.Response(body=encode(make()), content_type=content_type)
        if path == "/metrics":
            return web.Response(text=self._metrics.render())
        if self._openapi.knows(path):
            return await self._openapi.answer(request, path, address.query.get("hash", ""))
        excluded = address.query["exclude"].split("\n") if "exclude" in address.query else ()
        return self._health.answer(path, verbose="verbose" in address.query, exclude=excluded)

    def _aggregated(self, request: web.BaseRequest, wanted: str, *, core: bool) -> web.Response:
        """Clients keep it by its ETag and ask only whether it still holds."""
        body = encode(self._discovery.aggregated(wanted, core=core))
        headers = {"ETag": f'"{hashlib.sha512(body).hexdigest().upper()}"', "Vary": "Accept"}
        if headers["ETag"] in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        kind = f"application/json;g=apidiscovery.k8s.io;v={wanted};as=APIGroupDiscoveryList"
        return web.Response(body=body, headers={**headers, "Content-Type": kind})
