from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import IPv4Address

import pytest

from nodeport.node import hooks
from nodeport.node.actions import Action, Exec, HttpGet, Sleep, TcpSocket
from nodeport.node.hooks import HookFailed
from nodeport.node.reach import Reach
from nodeport.node.webget import Dialer

WHO = 'Container "main" in Pod "p_default(uid)"'
LONG = timedelta(days=1)


def reach(code: int = 0, output: str = "", *, hangs: bool = False, trouble: str = "") -> Reach:
    """A container whose commands all end so."""

    async def execute(argv: Sequence[str], limit: timedelta) -> tuple[int, str]:
        if hangs:
            await asyncio.Event().wait()
        if trouble:
            raise OSError(trouble)
        return code, output

    return Reach(Dialer(None), IPv4Address("10.0.0.1"), execute)


async def test_a_command_that_succeeds_is_all_there_is_to_it() -> None:
    await hooks.run(Exec(("true",)), reach(), LONG, WHO)


@pytest.mark.parametrize(
    ("action", "place", "said"),
    [
        (Exec(("sh", "-c", "x")), reach(3, "bad"),
         f"Exec lifecycle hook ([sh -c x]) for {WHO} failed - error: command 'sh -c x' exited with 3: bad,"
         ' message: "bad"'),
        (Exec(("no",)), reach(trouble="not there"),
         f'Exec lifecycle hook ([no]) for {WHO} failed - error: not there, message: ""'),
        (HttpGet("web", "/x"), reach(), f"HTTP lifecycle hook (/x) for {WHO} failed - error: couldn't find port: web"),
        (TcpSocket(1), reach(), "Cannot run handler: invalid handler: TcpSocket(port=1, host='')"),
    ],
)  # fmt: skip
async def test_what_fails_is_told_as_a_kubelet_tells_it(action: Action, place: Reach, said: str) -> None:
    with pytest.raises(HookFailed) as failed:
        await hooks.run(action, place, LONG, WHO)
    assert str(failed.value) == said


@pytest.mark.parametrize("action", [Sleep(3600), Exec(("sleep", "3600"))])
async def test_a_hook_does_not_outlive_its_container(action: Action) -> None:
    ended = asyncio.Event()
    ended.set()
    await hooks.run_while_it_lives(action, reach(hangs=True), LONG, WHO, ended)


async def test_a_hook_has_its_limit() -> None:
    await hooks.run_while_it_lives(
        Exec(("sleep", "3600")), reach(hangs=True), timedelta(0), WHO, asyncio.Event()
    )


async def test_a_failure_is_heard_through_the_wait() -> None:
    with pytest.raises(HookFailed):
        await hooks.run_while_it_lives(Exec(("x",)), reach(1), LONG, WHO, asyncio.Event())
