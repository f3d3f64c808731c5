"""A refused write, told in the words of Kubernetes' controllers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nodeport.api.meta import NamespacedName
from nodeport.api.status import ApiError, Conflict, Forbidden, NotFound

_ENDING = "NamespaceTerminating"


class SliceWriteError(Exception):
    """``reason`` is the server's answer; ``is_terminating``: the namespace is going away, so nothing is wrong."""

    def __init__(self, message: str, reason: ApiError) -> None:
        super().__init__(f"{message}: {reason}")
        self.reason = reason

    @property
    def is_terminating(self) -> bool:
        return is_ending_namespace(self.reason)


def is_ending_namespace(error: ApiError) -> bool:
    return isinstance(error, Forbidden) and any(cause.reason == _ENDING for cause in error.causes)


@contextmanager
def failing_to(verb: str, name: str, key: NamespacedName, *, owner: str = "Service") -> Iterator[None]:
    """Turns the server's refusal into a ``SliceWriteError``, but for races, which are no news."""
    try:
        yield
    except (Conflict, NotFound):
        raise
    except ApiError as reason:
        which = f"{name} EndpointSlice" if name else "EndpointSlice"
        raise SliceWriteError(f"failed to {verb} {which} for {owner} {key}", reason) from reason
