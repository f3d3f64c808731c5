"""Brings an image from a registry into the store: only what is not there yet, and nothing half."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar
from weakref import WeakValueDictionary

from nodeport.node.images import manifests
from nodeport.node.images.credentials import Credentials
from nodeport.node.images.layers import Intake
from nodeport.node.images.manifests import BadManifest, Descriptor, Index, Manifest, digest_of
from nodeport.node.images.references import Reference
from nodeport.node.images.registry import Registries, Registry, RegistryError
from nodeport.node.images.store import ContentStore, StoredImage
from nodeport.node.images.unpack import BadLayer

Result = TypeVar("Result")


class PullFailed(Exception):
    """Why there is no image; one sentence."""


class Puller:
    """Safe for several pulls at a time; one of each name at a time."""

    def __init__(self, store: ContentStore, registries: Registries, architecture: str) -> None:
        self._store, self._registries, self._architecture = store, registries, architecture
        self._under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def can_pull(self, reference: Reference) -> bool:
        return bool(self._registries.host_of(reference))

    def lock(self, reference: Reference) -> asyncio.Lock:
        """Held while that name is pulled: others then find it."""
        return self._under_way.setdefault(str(reference), asyncio.Lock())

    async def pull(self, reference: Reference, credentials: Sequence[Credentials]) -> StoredImage:
        """Raises PullFailed. Asked for what is here already, it asks the registry for the digest alone."""
        try:
            url = self._registries.url(self._registries.host_of(reference))
            async with Registry(url, reference.repository, credentials) as registry:
                await self._bring(registry, reference)
        except (RegistryError, BadManifest, BadLayer, PullFailed) as error:
            raise _failed(reference, str(error)) from error
        except OSError as error:
            raise _failed(reference, error.strerror or str(error)) from error
        found = self._store.find(reference)
        if found is None:
            raise _failed(reference, "it was removed while it came")
        return found

    async def _bring(self, registry: Registry, reference: Reference) -> None:
        try:
            content = await registry.manifest(reference.digest or reference.tag)
        except RegistryError as error:
            raise PullFailed(f'failed to resolve reference "{reference}": {error}') from error
        digest = digest_of(content)
        here = self._store.find(reference)
        if here is not None and digest in (here.record.digest, here.record.manifest):
            return
        match manifests.parse(content):
            case Index() as index:
                chosen = manifests.for_machine(index, self._architecture)[0]
                content = await registry.manifest(chosen.digest)
                manifest = manifests.parse_manifest(content)
            case Manifest() as manifest:
                pass
        config = await registry.document(manifest.config)
        configuration = manifests.parse_config(config, manifest)
        manifests.check_platform(configuration, self._architecture)
        name = Reference(
            reference.registry,
            reference.repository,
            "" if reference.digest else reference.tag,
            reference.digest,
        )
        with ExitStack() as stack:
            wanted = self._store.intake(configuration.diff_ids)
            intake = await _to_its_end(lambda: stack.enter_context(wanted))  # it may wait for its turn
            for diff_id, layer in zip(configuration.diff_ids, manifest.layers, strict=True):
                if self._store.missing([diff_id]):
                    await _take(registry, intake, layer, diff_id)
            await _to_its_end(lambda: self._store.commit(intake, [name], content, config, digest))


def _failed(reference: Reference, why: str) -> PullFailed:
    """As a kubelet's runtime says it."""
    return PullFailed(f'failed to pull and unpack image "{reference}": {why}')


async def _take(registry: Registry, intake: Intake, layer: Descriptor, diff_id: str) -> None:
    packed = intake.place / layer.digest.removeprefix("sha256:")
    await registry.fetch(layer, packed)

    def add() -> None:
        with packed.open("rb") as file:
            intake.add(file, diff_id)

    await _to_its_end(add)
    packed.unlink()


async def _to_its_end(call: Callable[[], Result]) -> Result:
    """In a thread; whoever is cancelled meanwhile waits for it, since what it works on is then thrown away."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
