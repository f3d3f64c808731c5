"""An API server inside a test: real TLS, real HTTP, its own certificate authority, gone when the block ends."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nodeport.apiserver.pki import ClusterPki
from nodeport.apiserver.server import ApiServer, ApiServerConfig, TlsFiles
from nodeport.client import kubeconfig
from nodeport.client.config import ClientConfig
from nodeport.store.base import Store
from nodeport.store.memory import MemoryStore

ADMIN = "kubernetes-admin"


@dataclass(frozen=True, slots=True)
class RunningApiServer:
    """``store`` is what it serves; ``pki`` holds every certificate of the cluster; ``task`` runs the server."""

    url: str
    store: Store
    pki: ClusterPki
    server: ApiServer
    task: asyncio.Task[None]

    @property
    def ca_pem(self) -> bytes:
        return self.pki.ca_pem

    @property
    def admin_config(self) -> ClientConfig:
        """May do everything."""
        return ClientConfig(
            server=self.url, ca=self.ca_pem, client_cert=self.pki.admin.cert, client_key=self.pki.admin.key
        )

    @property
    def controllers_config(self) -> ClientConfig:
        """May do what the cluster's controllers may."""
        return ClientConfig(
            server=self.url,
            ca=self.ca_pem,
            client_cert=self.pki.controller.cert,
            client_key=self.pki.controller.key,
        )

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig for kubectl with the administrator's certificate."""
        kubeconfig.merge(
            path,
            name="nodeport-test",
            server=self.url,
            ca=self.ca_pem,
            cert=self.pki.admin.cert.read_bytes(),
            key=self.pki.admin.key.read_bytes(),
        )
        return path


@asynccontextmanager
async def running_apiserver(store: Store | None = None, **options: Any) -> AsyncIterator[RunningApiServer]:
    """Serve ``store`` (a fresh ``MemoryStore`` when none is given) on a free port of 127.0.0.1.

    ``options`` are fields of ``ApiServerConfig``. A store that was given is left open.
    """
    own = store is None
    served: Store = MemoryStore() if store is None else store
    with tempfile.TemporaryDirectory(prefix="nodeport-pki-") as directory:
        pki = ClusterPki.ensure(Path(directory))
        config = replace(
            ApiServerConfig(
                store=served,
                listen=(("127.0.0.1", 0),),
                tls=TlsFiles(pki.server.cert, pki.server.key, pki.ca.cert),
                service_account_key=pki.service_account_key,
                kubelet_client=TlsFiles(pki.kubelet_client.cert, pki.kubelet_client.key, pki.ca.cert),
            ),
            **options,
        )
        server = ApiServer(config)
        task = asyncio.create_task(server.run(), name="apiserver")
        try:
            await _serving_or_failed(server, task)
            host, port = server.addresses[0]
            yield RunningApiServer(f"https://{host}:{port}", served, pki, server, task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if own:
                await served.close()


async def _serving_or_failed(server: ApiServer, task: asyncio.Task[None]) -> None:
    waiter = asyncio.create_task(server.wait_until_serving())
    await asyncio.wait((waiter, task), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        waiter.cancel()
        await task
