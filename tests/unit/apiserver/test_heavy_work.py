"""Large objects are looked at beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from nodeport.apiserver import verbs, writes
from nodeport.apiserver.heavy import HEAVY_BYTES, HeavyWork
from unit.apiserver.security import asking

MAPS = "/api/v1/namespaces/default/configmaps"


async def test_little_is_done_here_and_much_in_a_thread_one_piece_at_a_time() -> None:
    heavy, here = HeavyWork(), threading.get_ident()
    assert await heavy.run(HEAVY_BYTES - 1, threading.get_ident) == here
    running: list[int] = []

    def work(number: int) -> int:
        running.append(number)
        assert len(running) == 1
        running.pop()
        return threading.get_ident()

    threads = await asyncio.gather(*(heavy.run(HEAVY_BYTES, work, number) for number in range(50)))
    assert here not in threads


async def test_what_fails_in_a_thread_fails_here() -> None:
    heavy = HeavyWork()
    with pytest.raises(ZeroDivisionError):
        await heavy.run(HEAVY_BYTES, lambda: 1 // 0)
    assert await heavy.run(HEAVY_BYTES, lambda: 1) == 1


@pytest.mark.parametrize(("fields", "is_heavy"), [(1, False), (8_000, True)])
async def test_the_loop_does_not_walk_through_large_bodies(
    monkeypatch: pytest.MonkeyPatch, fields: int, is_heavy: bool
) -> None:
    seen: dict[str, bool] = {}

    def noting(module: Any, name: str) -> None:
        function = getattr(module, name)

        def noted(*args: Any) -> Any:
            if "big" in str(args):
                seen[name] = threading.current_thread() is not threading.main_thread()
            return function(*args)

        monkeypatch.setattr(module, name, noted)

    for module, name in ((verbs, "read_object"), (writes, "validate_create"), (writes, "validate_update")):
        noting(module, name)
    async with asking() as ask:
        data = {f"key-{number}": "big value" for number in range(fields)}
        made = await ask.must("admin", "POST", MAPS, {"metadata": {"name": "m"}, "data": data})
        assert made["data"] == data
        await ask.must("admin", "PATCH", f"{MAPS}/m", {"metadata": {"labels": {"a": "big"}}})
    assert seen == dict.fromkeys(("read_object", "validate_create", "validate_update"), is_heavy)
