"""The images of a node: those of the machine first, then those that were loaded, built or pulled."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from nodeport.node.images.base import (
    Image,
    ImageError,
    ImageNeverPull,
    InvalidImageName,
    PullPolicy,
    PullRequest,
)
from nodeport.node.images.credentials import matching
from nodeport.node.images.host import HostImages, parse_mapping
from nodeport.node.images.manifests import architecture_of
from nodeport.node.images.pulls import Puller, PullFailed
from nodeport.node.images.references import NotAReference, Reference, parse
from nodeport.node.images.registry import Registries
from nodeport.node.images.store import ContentStore, StoredImage, content_store


class NodeImages:
    """The `ImageStore` of nodes: one for all nodes of a process."""

    def __init__(self, host: HostImages, store: ContentStore, puller: Puller) -> None:
        self._host, self._store, self._puller = host, store, puller

    async def resolve(self, request: PullRequest) -> Image:
        try:
            wanted = parse(request.reference)
        except NotAReference as error:
            raise InvalidImageName(
                f'Failed to apply default image tag "{request.reference}": {error}'
            ) from error
        if found := self._host.find(wanted):
            return found
        here = self._store.find(wanted)
        if request.policy is PullPolicy.NEVER and here is None:
            raise ImageNeverPull(
                f'Container image "{request.reference}" is not present with pull policy of Never'
            )
        if here and (request.policy is not PullPolicy.ALWAYS or not self._puller.can_pull(wanted)):
            return self._store.image(here)
        return self._store.image(await self._pulled(wanted, request))

    async def _pulled(self, wanted: Reference, request: PullRequest) -> StoredImage:
        if not self._puller.can_pull(wanted):
            raise ImageError(
                f'image "{request.reference}" is not on this machine and its name has no registry: `nodeport image'
                " load` brings it, `nodeport up --image NAME=PATH` lets something of the machine stand for it"
            )
        async with self._puller.lock(wanted):
            here = self._store.find(wanted)
            if here and request.policy is not PullPolicy.ALWAYS:
                return here  # somebody else has pulled it meanwhile
            request.pulling()
            try:
                return await self._puller.pull(wanted, matching(request.secrets, wanted))
            except PullFailed as error:
                raise ImageError(str(error)) from error

    def held(self) -> Sequence[Image]:
        return sorted((*self._host.held(), *self._store.held()), key=lambda image: -image.size)


def node_images(
    folder: Path, mappings: Sequence[str] = (), registries: Registries | None = None
) -> NodeImages:
    """The images of a node, from mappings as `up` keeps them. Raises BadHostImage."""
    store = content_store(folder)
    puller = Puller(store, registries or Registries(), architecture_of(platform.machine()))
    return NodeImages(HostImages(folder, [parse_mapping(text) for text in mappings]), store, puller)
