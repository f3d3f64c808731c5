"""Starts a container of a pod once more: volumes, image, settings, order, run; and says why when it cannot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from nodeport.api.duration import go_duration
from nodeport.api.status import ApiError
from nodeport.client.rest import TransportError
from nodeport.kit.backoff import Backoff
from nodeport.node import actions, environment, ephemeral, hooks, pod_status
from nodeport.node.containers import Keeper
from nodeport.node.endings import Stopper
from nodeport.node.environment import ConfigError, PodFacts, SettingKey
from nodeport.node.hooks import HookFailed
from nodeport.node.images.base import Image, ImageError, PullPolicy, PullRequest
from nodeport.node.oci.machine import accounts_of
from nodeport.node.orders import container_order
from nodeport.node.pod_record import PodRecord
from nodeport.node.runtime import Container, ContainerOrder
from nodeport.node.sandbox import Sandbox
from nodeport.node.servicevariables import INDEX, MASTER, service_variables
from nodeport.node.settings import PodTokens
from nodeport.node.volumes import payload
from nodeport.node.volumes.podvolumes import PodVolumes

HOOK_LIMIT = timedelta(days=365)
"""A kubelet sets a postStart hook no limit."""
POST_START_ERROR = "PostStartHookError"
CONFIG_RETRY = timedelta(seconds=10)
MOUNT_FIRST, MOUNT_MOST = timedelta(milliseconds=500), timedelta(seconds=122)


class ContainerStarter:
    def __init__(self, record: PodRecord) -> None:
        self._record = record
        self._mounting = Backoff(MOUNT_FIRST, MOUNT_MOST)
        self._volumes: tuple[Sandbox, PodVolumes] | None = None

    async def start(self, keeper: Keeper, sandbox: Sandbox) -> timedelta | None:
        """One more run; how long until the next try when there is none, None when it runs."""
        record, node = self._record, self._record.node
        try:
            if due := await self._volumes_missing(sandbox, keeper):
                return due
            keeper.image = await self._pull(keeper)
            order = await self._order(keeper, keeper.image, sandbox)
        except ImageError as error:
            return self._pull_failed(keeper, error)
        except (ConfigError, ApiError, TransportError, OSError) as error:
            return self._not_created(keeper, error, "CreateContainerConfigError")
        async with node.runtime.places.one():
            if record.is_going:  # it may have waited long
                return timedelta(0)
            record.note("Created", "Container created", keeper)
            try:
                container = await node.runtime.start(sandbox, order, record.changed)
            except OSError as error:
                return self._not_created(keeper, error)
        keeper.take(container)
        record.dirty.set()
        if container.pid == 0 and container.exit is not None:
            record.warn("Failed", f"Error: failed to start container: {container.exit.message}", keeper)
            return timedelta(0)
        record.note("Started", "Container started", keeper)
        await self._post_start(keeper, sandbox, container)
        return None

    async def _post_start(self, keeper: Keeper, sandbox: Sandbox, container: Container) -> None:
        """Until the hook is done; one that fails ends the container. Given up when container or pod end before."""
        record = self._record
        action = actions.parse((keeper.spec.get("lifecycle") or {}).get("postStart") or {}, keeper.spec)
        if action is None:
            return
        reach, who = record.reach(sandbox, container), record.who(keeper)
        keeper.hooking = True
        try:
            await record.unless_it_ends(
                hooks.run_while_it_lives(action, reach, HOOK_LIMIT, who, container.ended)
            )
        except (HookFailed, TimeoutError) as error:
            record.warn("FailedPostStartHook", "PostStartHook failed", keeper)
            await record.unless_it_ends(Stopper(record).stop(keeper, record.grace(), "FailedPostStartHook"))
            keeper.waiting = (POST_START_ERROR, str(error))
        finally:
            keeper.hooking = False
            record.changed()

    def _not_created(self, keeper: Keeper, error: Exception, why: str = "CreateContainerError") -> timedelta:
        keeper.waiting = (why, str(error))
        keeper.retry_at = self._record.node.clock.monotonic() + CONFIG_RETRY.total_seconds()
        self._record.warn("Failed", f"Error: {error}", keeper)
        return CONFIG_RETRY

    async def _volumes_missing(self, sandbox: Sandbox, keeper: Keeper) -> timedelta | None:
        """How long until the next try; until then the container is still being created. None: they are there."""
        try:
            await self.ensure_volumes(sandbox)
        except (ConfigError, ApiError, TransportError, OSError) as error:
            delay = self._mounting.next()
            keeper.retry_at = self._record.node.clock.monotonic() + delay.total_seconds()
            self._record.warn("FailedMount", str(error))
            return delay
        self._mounting.reset()
        return None

    def back_off(self, keeper: Keeper) -> None:
        """Say that the container's next run has to wait."""
        pod = self._record.full_name
        delay = go_duration(pod_status.crash_delay(keeper.restart + 1))
        words = f"back-off {delay} restarting failed container={keeper.name} pod={pod}"
        keeper.waiting = ("CrashLoopBackOff", words)
        self._record.warn(
            "BackOff", f"Back-off restarting failed container {keeper.name} in pod {pod}", keeper
        )

    async def _pull(self, keeper: Keeper) -> Image:
        """The image, and events about it. Raises ImageError, or ApiError when its secrets cannot be read."""
        record, clock = self._record, self._record.node.clock
        reference = str(keeper.spec.get("image") or "")
        asked, began = clock.monotonic(), list[float]()

        def pulling() -> None:
            began.append(clock.monotonic())
            record.note("Pulling", f'Pulling image "{reference}"', keeper)

        policy = PullPolicy(keeper.spec.get("imagePullPolicy") or PullPolicy.IF_NOT_PRESENT)
        request = PullRequest(reference, policy, await self._pull_secrets(), pulling)
        image = await record.node.images.resolve(request)
        if began:
            now = clock.monotonic()
            took, whole = (
                go_duration(timedelta(milliseconds=int((now - since) * 1e3))) for since in (began[0], asked)
            )
            words = f'Successfully pulled image "{reference}" in {took} ({whole} including waiting).'
            record.note("Pulled", f"{words} Image size: {image.size} bytes.", keeper)
        else:
            words = f'Container image "{reference}" already present on machine and can be accessed by the pod'
            record.note("Pulled", words, keeper)
        return image

    async def known_image(self, keeper: Keeper) -> Image | None:
        """Of a container that runs: None when the image has been removed meanwhile. Nothing is fetched."""
        request = PullRequest(str(keeper.spec.get("image") or ""), PullPolicy.NEVER)
        try:
            return await self._record.node.images.resolve(request)
        except ImageError:
            return None

    async def _pull_secrets(self) -> tuple[dict[str, str], ...]:
        """What the pod's pull secrets hold, those that exist."""
        node, pod = self._record.node, self._record.last_pod
        namespace = pod["metadata"]["namespace"]
        names = [each["name"] for each in pod["spec"].get("imagePullSecrets") or () if each.get("name")]
        found = [await node.settings.get("secrets", namespace, name) for name in names]
        return tuple(values for values in found if values is not None)

    def _pull_failed(self, keeper: Keeper, error: ImageError) -> timedelta:
        record, image = self._record, keeper.spec.get("image")
        first = keeper.waiting is None or error.is_final
        delay = keeper.pulls.next()
        keeper.retry_at = record.node.clock.monotonic() + delay.total_seconds()
        if first:
            keeper.waiting = (error.reason, str(error))
            record.warn(error.event, error.told(str(image)), keeper)
            record.warn("Failed", f"Error: {error.reason}", keeper)
        else:
            keeper.waiting = ("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
            record.note("BackOff", f'Back-off pulling image "{image}"', keeper)
            record.warn("Failed", "Error: ImagePullBackOff", keeper)
        return delay

    async def _order(self, keeper: Keeper, image: Image, sandbox: Sandbox) -> ContainerOrder:
        """Raises ConfigError, or ApiError when the settings it needs cannot be read."""
        node = self._record.node
        facts = await self._facts(sandbox, environment.setting_keys(keeper.spec))
        facts = replace(facts, services=self._service_variables())
        declared = environment.declared_environment(keeper.spec, facts)
        mounts = self._volumes_in(sandbox).mounts(keeper.spec, facts, declared)
        order = container_order(
            keeper.spec, keeper.next_attempt(), image, facts, node.machine, accounts_of(image), mounts
        )
        if keeper not in self._record.ephemeral_keepers:
            return order
        ephemeral.check(keeper.spec)
        return replace(order, pid_namespace=ephemeral.pids_to_share(keeper.spec, self._record.all_keepers()))

    async def ensure_volumes(self, sandbox: Sandbox) -> None:
        """Make or update the pod's volumes. Raises ConfigError, OSError, ApiError, TransportError."""
        record, pod = self._record, self._record.last_pod
        facts = await self._facts(sandbox, payload.setting_keys(pod))
        if record.tokens is None:
            record.tokens = PodTokens(record.node.client, record.node.clock)
        tokens = {key: await record.tokens.get(pod, key) for key in payload.token_keys(pod)}
        self._volumes_in(sandbox).ensure(facts, tokens)

    def _volumes_in(self, sandbox: Sandbox) -> PodVolumes:
        if self._volumes is None or self._volumes[0] is not sandbox:
            self._volumes = sandbox, PodVolumes(sandbox)
        return self._volumes[1]

    async def _facts(self, sandbox: Sandbox, keys: Iterable[SettingKey]) -> PodFacts:
        node, pod = self._record.node, self._record.last_pod
        namespace = pod["metadata"]["namespace"]
        settings = {key: await node.settings.get(key[0], namespace, key[1]) for key in set(keys)}
        return PodFacts(
            pod=pod, pod_ips=list(map(str, sandbox.addresses)),
            host_ips=list(map(str, node.surroundings.addresses)),
            hostname=sandbox.pod.hostname, settings=settings, capacity=node.capacity,
        )  # fmt: skip

    def _service_variables(self) -> dict[str, str]:
        services, pod = self._record.node.services, self._record.last_pod
        namespaces = {pod["metadata"]["namespace"], MASTER[0]}
        found = [service for each in sorted(namespaces) for service in services.by_index(INDEX, each)]
        return service_variables(found, pod)
