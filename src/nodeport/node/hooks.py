"""Runs a container's lifecycle hooks.

Rule source: https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from nodeport.kit.giveup import unless
from nodeport.node.actions import Action, Exec, HttpGet, Sleep
from nodeport.node.reach import Reach
from nodeport.node.webget import NO_TLS, RequestFailed


class HookFailed(Exception):
    """The message is the one that a kubelet has for it."""


async def run(action: Action, reach: Reach, limit: timedelta, who: str) -> None:
    """Until the hook is done. ``who``: the container and its pod, for messages. Raises HookFailed, TimeoutError.

    An HTTP hook's status is of no interest, as with a kubelet; a connection that cannot be made is.
    """
    match action:
        case Exec(command):
            what = f"Exec lifecycle hook ([{' '.join(command)}]) for {who} failed"
            try:
                code, output = await reach.execute(command, limit)
            except OSError as error:
                raise HookFailed(f'{what} - error: {error}, message: ""') from error
            if code:
                words = f"command '{' '.join(command)}' exited with {code}: {output}"
                raise HookFailed(f'{what} - error: {words}, message: "{output}"')
        case HttpGet() as http:
            await _get(http, reach, limit, f"HTTP lifecycle hook ({http.path}) for {who} failed")
        case Sleep(seconds):
            await asyncio.sleep(min(seconds, limit.total_seconds()))
        case _:
            raise HookFailed(f"Cannot run handler: invalid handler: {action}")


async def run_while_it_lives(
    action: Action, reach: Reach, limit: timedelta, who: str, ended: asyncio.Event
) -> None:
    """As `run`, but no longer than the container lives, which ``ended`` tells, and than ``limit``."""
    await unless(ended.wait(), run(action, reach, limit, who), limit.total_seconds())


async def _get(http: HttpGet, reach: Reach, limit: timedelta, what: str) -> None:
    """What asks for HTTPS of a program that speaks HTTP gets it."""
    if isinstance(http.port, str):
        raise HookFailed(f"{what} - error: couldn't find port: {http.port}")
    host = http.host or str(reach.address)
    async with asyncio.timeout(limit.total_seconds()):
        try:
            try:
                await reach.dialer.get(http, host)
            except RequestFailed as error:
                if NO_TLS not in str(error):
                    raise
                plain = HttpGet(http.port, http.path, http.host, "HTTP", http.headers)
                await reach.dialer.get(plain, host)
        except RequestFailed as error:
            raise HookFailed(f"{what} - error: {error}") from error
