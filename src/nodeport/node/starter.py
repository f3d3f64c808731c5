"""Starts a container of a pod once more: image, settings, order, run; and says why when it cannot."""

from __future__ import annotations

from datetime import timedelta

from nodeport.api.duration import go_duration
from nodeport.api.resources import CONFIG_MAPS, SECRETS
from nodeport.api.status import ApiError, NotFound
from nodeport.client.rest import TransportError
from nodeport.node import environment, pod_status, volumes
from nodeport.node.containers import Keeper
from nodeport.node.environment import ConfigError, PodFacts
from nodeport.node.images.base import Image, ImageError, PullPolicy, PullRequest
from nodeport.node.oci.machine import accounts_of
from nodeport.node.orders import container_order
from nodeport.node.pod_record import PodRecord
from nodeport.node.runtime import ContainerOrder
from nodeport.node.sandbox import Sandbox

CONFIG_RETRY = timedelta(seconds=10)


class ContainerStarter:
    def __init__(self, record: PodRecord) -> None:
        self._record = record

    async def start(self, keeper: Keeper, sandbox: Sandbox) -> timedelta | None:
        """One more run; how long until the next try when there is none, None when it runs."""
        record, node = self._record, self._record.node
        try:
            keeper.image = await self.pull(keeper)
            order = await self._order(keeper, keeper.image, sandbox)
        except ImageError as error:
            return self._pull_failed(keeper, error)
        except (ConfigError, ApiError, TransportError, OSError) as error:
            keeper.waiting = ("CreateContainerConfigError", str(error))
            keeper.retry_at = node.clock.monotonic() + CONFIG_RETRY.total_seconds()
            record.warn("Failed", f"Error: {error}", keeper)
            return CONFIG_RETRY
        if keeper.current is None:
            record.note(
                "Pulled", f'Container image "{keeper.spec.get("image")}" already present on machine', keeper
            )
        record.note("Created", f"Created container: {keeper.name}", keeper)
        container = await node.runtime.start(sandbox, order, record.changed)
        keeper.take(container)
        record.dirty.set()
        if container.pid == 0 and container.exit is not None:
            record.warn("Failed", f"Error: failed to start container: {container.exit.message}", keeper)
            return timedelta(0)
        record.note("Started", f"Started container {keeper.name}", keeper)
        return None

    def back_off(self, keeper: Keeper) -> None:
        """Say that the container's next run has to wait."""
        metadata = self._record.last_pod["metadata"]
        pod = f"{metadata['name']}_{metadata['namespace']}({self._record.uid})"
        delay = go_duration(pod_status.crash_delay(keeper.restart + 1))
        words = f"back-off {delay} restarting failed container={keeper.name} pod={pod}"
        keeper.waiting = ("CrashLoopBackOff", words)
        self._record.warn(
            "BackOff", f"Back-off restarting failed container {keeper.name} in pod {pod}", keeper
        )

    async def pull(self, keeper: Keeper) -> Image:
        policy = PullPolicy(keeper.spec.get("imagePullPolicy") or PullPolicy.IF_NOT_PRESENT)
        request = PullRequest(str(keeper.spec.get("image") or ""), policy)
        return await self._record.node.images.resolve(request)

    def _pull_failed(self, keeper: Keeper, error: ImageError) -> timedelta:
        record, image = self._record, keeper.spec.get("image")
        first = keeper.waiting is None
        delay = keeper.pulls.next()
        keeper.retry_at = record.node.clock.monotonic() + delay.total_seconds()
        if first:
            keeper.waiting = ("ErrImagePull", str(error))
            record.warn("Failed", str(error), keeper)
            record.warn("Failed", "Error: ErrImagePull", keeper)
        else:
            keeper.waiting = ("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
            record.note("BackOff", f'Back-off pulling image "{image}"', keeper)
            record.warn("Failed", "Error: ImagePullBackOff", keeper)
        return delay

    async def _order(self, keeper: Keeper, image: Image, sandbox: Sandbox) -> ContainerOrder:
        """Raises ConfigError, or ApiError when the settings it needs cannot be read."""
        pod = self._record.last_pod
        wanted = {*environment.setting_keys(keeper.spec), *volumes.setting_keys(pod)}
        settings = {key: await self._setting(*key) for key in wanted}
        node = self._record.node
        host = str(node.surroundings.address)
        facts = PodFacts(pod, str(sandbox.address), host, sandbox.pod.hostname, settings)
        mounts = volumes.mounts(keeper.spec, facts, sandbox.directory / "volumes")
        return container_order(
            keeper.spec, keeper.next_attempt(), image, facts, node.machine, accounts_of(image), mounts
        )

    async def _setting(self, plural: str, name: str) -> dict[str, str] | None:
        resource = CONFIG_MAPS if plural == "configmaps" else SECRETS
        namespace = self._record.last_pod["metadata"]["namespace"]
        try:
            found = await self._record.node.client.get(resource, name, namespace)
        except NotFound:
            return None
        return volumes.text_values(found, secret=resource is SECRETS)
