"""Telling that kube-proxy has rules beside ours, for as long as it is so: some of them are asked before ours.

They are right while kube-proxy runs, and go stale when it does not any more. Removing them is for people to ask for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.proxy.kubeproxy import IPVS_LINK, hidden, leftovers
from nodeport.proxy.proxier import FAILURES

REASON: Final = "KubeProxyRules"
"""Of the event about the Node."""
COMMAND: Final = "nodeport proxy remove-kube-proxy"
_WHILE_THERE: Final = timedelta(minutes=1)
_log = get_logger(__name__)


def complaint(found: list[str]) -> str:
    """What to do about what ``kubeproxy.leftovers`` found."""
    of_ipvs = [item for item in found if IPVS_LINK in item]
    remedies = [f"`{COMMAND}` removes them"] if len(of_ipvs) < len(found) else []
    remedies += ["what is of mode ipvs goes with `kube-proxy --cleanup`"] if of_ipvs else []
    return (
        f"kube-proxy has rules on this node ({'; '.join(found)}); if it does not run any more, they are out of date "
        f"and may send connections to endpoints that are gone: {', and '.join(remedies)}"
    )


def warning(netns: Path | None) -> str:
    """What somebody should know about ``netns`` now; empty when there is nothing."""
    try:
        found = leftovers(netns)
    except FAILURES as error:
        return f"cannot look for what kube-proxy left: {error}"
    return complaint(found) if found else ""


class LeftoverWatch:
    """Looks once at the start and then every ``interval``, more often while there is something.

    ``told`` hears how many kinds of things there are, at each look; ``complain`` what to do about them, when that
    changes.
    """

    def __init__(
        self,
        netns: Path | None,
        interval: timedelta,
        clock: Clock,
        told: Callable[[int], None],
        complain: Callable[[str, str], None],
    ) -> None:
        self._netns = netns
        self._interval = interval
        self._clock = clock
        self._told = told
        self._complain = complain
        self._found: list[str] = []
        self._said: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            pause = min(_WHILE_THERE, self._interval) if self._found else self._interval
            await self._clock.sleep(pause.total_seconds())

    async def look(self) -> None:
        try:
            found, unseen = await asyncio.to_thread(lambda: (leftovers(self._netns), hidden(self._netns)))
        except FAILURES as error:
            self._say(f"cannot look for what kube-proxy left: {error}")
            return
        self._told(len(found))
        if found and found != self._found:
            _log.warning("%s", complaint(found))
            self._complain(REASON, complaint(found))
        elif self._found and not found:
            _log.info("what kube-proxy had on this node is gone")
        self._found = found
        if unseen:
            self._say(
                f"cannot look into {', '.join(unseen)} for rules that kube-proxy may have left: "
                "the programs are not installed here"
            )

    def _say(self, warning: str) -> None:
        """Once."""
        if warning not in self._said:
            self._said.add(warning)
            _log.warning("%s", warning)
