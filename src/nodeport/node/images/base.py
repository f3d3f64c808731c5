"""Images as the node sees them, and the protocol of whoever has them.

An image is a list of read-only folders (``layers``, topmost first: overlayfs' order), each with the content of one
layer, whiteouts in overlayfs' own form (a character device 0/0 for a name that is gone, the xattr
``trusted.overlay.opaque`` = ``y`` for a folder that hides those below). They must stay where they are while the store
says that the image is held. The container's own changes go to a folder of its own above them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

Bind = tuple[str, str]
"""(place in the container, path on this machine): shown read-only."""


class PullPolicy(StrEnum):
    """``imagePullPolicy`` of a container."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class ImageError(Exception):
    """The image cannot be had. ``reason``: the container's waiting reason; the text is its message; ``event``: the
    event's reason. ``is_final``: no back-off is told, since trying again is not going to help."""

    reason = "ErrImagePull"
    event = "Failed"
    is_final = False

    def told(self, reference: str) -> str:
        """The event's message."""
        return str(self) if self.is_final else f'Failed to pull image "{reference}": {self}'


class ImageNeverPull(ImageError):
    """It is not here, and must not be pulled."""

    reason = event = "ErrImageNeverPull"
    is_final = True


class InvalidImageName(ImageError):
    """It is no name of an image."""

    reason = "InvalidImageName"
    event = "InspectFailed"
    is_final = True


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the OCI image configuration's ``config`` says. ``env``: NAME=VALUE; ``user``: USER[:GROUP], names or ids."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """``name`` and ``image_id`` are as a container's status shows them (``docker.io/library/web:1``,
    ``docker.io/library/web@sha256:…``). ``binds``: what of this machine is seen over the layers. ``describes_pod``:
    its program is told about its pod in its environment, and tells us when it serves (our own echo).
    """

    name: str
    image_id: str
    config: ImageConfig
    layers: tuple[Path, ...]
    binds: tuple[Bind, ...] = ()
    size: int = 0
    describes_pod: bool = False


@dataclass(frozen=True, slots=True)
class PullRequest:
    """One container's wish. ``secrets``: the decoded ``data`` of the pod's imagePullSecrets, those that exist.

    ``pulling`` is called once if the image is about to be fetched from elsewhere (event Pulling).
    """

    reference: str
    policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    secrets: Sequence[Mapping[str, str]] = ()
    pulling: Callable[[], None] = field(default=lambda: None)


class ImageStore(Protocol):
    """Whoever has images. One for all nodes of a process; calls may overlap."""

    async def resolve(self, request: PullRequest) -> Image:
        """The image, fetched if its policy wants that. Raises ImageError when it cannot be had."""
        ...

    def held(self) -> Sequence[Image]:
        """What is here now: for the node's status, biggest first."""
        ...
