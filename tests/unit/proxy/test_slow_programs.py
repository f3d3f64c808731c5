"""While the programs of iptables work, everything else on the loop goes on; whoever stops waits for their end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from nodeport.api.meta import NamespacedName
from nodeport.forwarding.table import Change, Family, ForwardingTable, NodeFacts
from nodeport.kit.clock import SystemClock
from nodeport.proxy.observer import Unobserved
from nodeport.proxy.options import Mode, ProxyOptions
from nodeport.proxy.programmer import Caches, Programmer
from unit.proxy.test_unreadable_services import Held, Kernel, service


class SlowKernel(Kernel):
    """A proxier that is done when it is told so."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.applied: list[Change] = []

    def resync(self, _table: ForwardingTable, _node: NodeFacts) -> int:
        return 0

    def apply(self, changes: Sequence[Change], _node: NodeFacts) -> int:
        self.begun.set()
        assert self.may_end.wait(10)
        self.applied.extend(changes)
        return 1


class Cleaner:
    def clean(self, _changes: object, _node: NodeFacts) -> int:
        return 0


async def test_the_loop_goes_on_and_nobody_leaves_before_the_program_is_done() -> None:
    services, kernel = Held([service("web", 1)]), SlowKernel()
    caches = Caches(NamespacedName("", "n1"), services, Held(), Held())  # type: ignore[arg-type]
    options = ProxyOptions(mode=Mode.IPTABLES)
    programmer = Programmer(Family.IPV4, caches, options, SystemClock(), Unobserved())
    programmer.start_over(kernel)  # type: ignore[arg-type]
    following = asyncio.create_task(programmer.follow(kernel, Cleaner()))  # type: ignore[arg-type]
    await programmer.programmed.wait()

    services.objects.append(service("other", 2))
    programmer.mark([NamespacedName("web", "other")])
    await asyncio.to_thread(kernel.begun.wait, 10)
    assert kernel.begun.is_set()  # and this test, on the same loop, was not held up
    following.cancel()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not following.done()
    assert kernel.applied == []
    kernel.may_end.set()
    await asyncio.wait([following])
    assert following.cancelled()
    assert [change.name.service.name for change in kernel.applied] == ["other"]
