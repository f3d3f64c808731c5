"""What is wrong with a local cluster's nodes on purpose, and what each order makes of it.

``RUN_ROOT/NAME/hurts.json`` holds what is wanted, by node; the process of the nodes reads it when it starts and when
it is told to, and answers in ``hurts.applied.json``. A reboot heals everything. A node that was healed stays listed,
so that what was done to it is undone also by a process that never did it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from nodeport.node.local import Paths, write_private
from nodeport.node.localoptions import LocalError


class Power(StrEnum):
    """STOPPED: as without power. PAUSED: its processes are frozen. PARTITIONED: nothing reaches it, nor it anything."""

    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    PARTITIONED = "partitioned"


@dataclass(frozen=True, slots=True)
class Hurt:
    """``loss``: the percentage of packets that its link to the other nodes loses; ``delay``: milliseconds that it holds
    them, give or take up to ``jitter``; each way."""

    power: Power = Power.RUNNING
    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0

    def __str__(self) -> str:
        words = [self.power.value] if self.power is not Power.RUNNING else []
        if self.loss:
            words.append(f"{self.loss:g}% loss")
        if self.delay:
            words.append(f"{self.delay:g} ms delay" + (f" ± {self.jitter:g} ms" if self.jitter else ""))
        return ", ".join(words)


ORDERS: Mapping[str, tuple[Power, Power]] = {
    "stop": (Power.RUNNING, Power.STOPPED),
    "start": (Power.STOPPED, Power.RUNNING),
    "pause": (Power.RUNNING, Power.PAUSED),
    "resume": (Power.PAUSED, Power.RUNNING),
    "partition": (Power.RUNNING, Power.PARTITIONED),
    "heal": (Power.PARTITIONED, Power.RUNNING),
}
"""What the node must be, and what it is then."""


def ordered(node: str, before: Hurt, order: str) -> Hurt:
    """What the node is to be; the same again when it is so already. Raises LocalError with the order that helps."""
    needed, then = ORDERS[order]
    if before.power is then:
        return before
    if before.power is not needed:
        raise LocalError(
            f"{node} is {before.power}, so it cannot {order}: `nodeport node {undoing(before.power)} {node}` first"
        )
    return replace(before, power=then)


def undoing(power: Power) -> str:
    """The order that has a node of that state run again."""
    return next(
        order for order, (needed, then) in ORDERS.items() if needed is power and then is Power.RUNNING
    )


def load(path: Path) -> dict[str, Hurt]:
    """By node; none without a file. Raises LocalError for a broken one."""
    try:
        found = json.loads(path.read_text())
        return {node: _hurt(**each) for node, each in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LocalError(
            f"{path} is broken ({error}): remove it and restart the nodes, and all run again"
        ) from error


def _hurt(power: str, loss: float, delay: float = 0.0, jitter: float = 0.0) -> Hurt:
    return Hurt(Power(power), float(loss), float(delay), float(jitter))


def save(path: Path, hurts: Mapping[str, Hurt]) -> None:
    write_private(path, json.dumps({node: asdict(hurt) for node, hurt in hurts.items()}) + "\n")


def wanted_file(paths: Paths) -> Path:
    return paths.run / "hurts.json"


def applied_file(paths: Paths) -> Path:
    return paths.run / "hurts.applied.json"
