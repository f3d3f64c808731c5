"""``nodeport node``: hurt a local cluster's nodes on purpose, and undo it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from nodeport.cli.cluster_options import about_cluster, must_be_root
from nodeport.cli.errors import UserError
from nodeport.node import hurt, local, processes
from nodeport.node.hurt import Hurt
from nodeport.node.local import Paths
from nodeport.node.localoptions import LocalError

PATIENCE = 30.0
HELP = {
    "stop": "Stop a node as a power cut does: no agent, no proxy, no link, its pods are killed.",
    "start": "Start a node that was stopped; its pods start anew.",
    "pause": "Freeze a node's processes: its agent and proxy halt, its pods stand still.",
    "resume": "Let a paused node go on.",
    "partition": "Cut a node off the other nodes and the API server; agent and pods live on.",
    "heal": "Join a partitioned node to the others again.",
}


class Figure(click.ParamType[float]):
    """A number from 0 to ``most``, with its unit or without it."""

    def __init__(self, unit: str, most: int) -> None:
        self.name, self._unit, self._most = unit, unit, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(str(value).removesuffix(self._unit))
        except ValueError:
            number = -1.0
        if not 0 <= number <= self._most:
            self.fail(f"'{value}' must be a number of {self._unit} from 0 to {self._most}", param, ctx)
        return number


PERCENT = Figure("%", 100)
MILLISECONDS = Figure("ms", 60_000)


@click.group("node", short_help="Hurt a local cluster's nodes on purpose, and undo it.")
def command() -> None:
    """Hurt a local cluster's nodes on purpose, and undo it: to see what your Services do about it.

    What was done stays until it is undone, also when the process of the nodes starts anew; a reboot and
    `nodeport down` end it.
    """


def _order(name: str) -> None:
    @command.command(name, help=HELP[name], short_help=HELP[name])
    @click.argument("node")
    @about_cluster
    def given(paths: Paths, node: str) -> None:
        change(paths, node, lambda before: hurt.ordered(node, before, name))


for _name in hurt.ORDERS:
    _order(_name)


@command.command("loss")
@click.argument("node")
@click.argument("percent", type=PERCENT)
@about_cluster
def lose(paths: Paths, node: str, percent: float) -> None:
    """Have a node's link to the others lose PERCENT of all packets, each way; 0 for none."""
    change(paths, node, lambda before: replace(before, loss=percent))


@command.command("delay")
@click.argument("node")
@click.argument("milliseconds", metavar="MS", type=MILLISECONDS)
@click.option(
    "--jitter",
    metavar="MS",
    type=MILLISECONDS,
    default=0.0,
    help="Hold packets for up to so much more, or less.",
)
@about_cluster
def delay(paths: Paths, node: str, milliseconds: float, jitter: float) -> None:
    """Have a node's link to the others hold every packet for MS milliseconds, each way; 0 for not at all.

    Packets keep their order.
    """
    if jitter > milliseconds:
        raise UserError(f"--jitter {jitter:g}: must be at most the delay, {milliseconds:g} ms")
    change(paths, node, lambda before: replace(before, delay=milliseconds, jitter=jitter))


def change(paths: Paths, node: str, wish: Callable[[Hurt], Hurt]) -> None:
    """Have the process of the nodes make the node so, and say how it is. Raises LocalError, UserError."""
    must_be_root("node")
    with local.locked():
        process = _process(paths, node)
        hurts = hurt.load(hurt.wanted_file(paths))
        hurts[node] = wanted = wish(hurts.get(node, Hurt()))
        hurt.save(hurt.wanted_file(paths), hurts)
        process.send(signal.SIGUSR1)
        _wait_until_applied(paths, node, wanted, process)
    click.echo(f"{node} is {str(wanted) or 'running'}")


def _process(paths: Paths, node: str) -> processes.ProcessId:
    config = local.load(paths)
    if config is None:
        raise LocalError(f"there is no cluster {paths.name!r}: `nodeport up` makes one")
    names = [each.name for each in config.plan(paths.name).nodes]
    if node not in names:
        shown = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        raise LocalError(f"cluster {paths.name!r} has no node {node!r}; it has {shown}")
    process = processes.living(paths.pid("nodes"))
    if process is None or not paths.ready("nodes").exists():
        raise LocalError(f"the nodes of cluster {paths.name!r} do not run: `nodeport up` starts them")
    return process


def _wait_until_applied(paths: Paths, node: str, wanted: Hurt, process: processes.ProcessId) -> None:
    deadline = time.monotonic() + PATIENCE
    while hurt.load(hurt.applied_file(paths)).get(node) != wanted:
        if not process.is_alive() or time.monotonic() > deadline:
            raise UserError(f"{node} has not become so; {paths.log('nodes')} says why")
        time.sleep(processes.POLL)
