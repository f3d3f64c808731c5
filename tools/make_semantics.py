"""Make ``docs/reference/service-semantics.md`` from the rows of the packet suite and what came of them.

python tools/make_semantics.py RESULTS...

RESULTS are files that the suite wrote (``NODEPORT_PACKET_RESULTS=FILE pytest tests/kernel/test_packet_suite.py``), one
per kernel that it ran on.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from kernel.aspects import ASPECT_ROWS, Aspect, AspectRow  # noqa: E402
from kernel.packets import ROWS, FrontendKind, Policy, Row, Sender, Situation  # noqa: E402

OUTPUT = ROOT / "docs" / "reference" / "service-semantics.md"
FAMILIES = ("IPv4", "IPv6")
PROTOCOLS = ("TCP", "UDP")
Result = dict[str, str]
"""stage (oracle, rules, packets), mode (empty for the oracle), family, protocol, row, outcome."""

HEAD = """\
# What becomes of a packet

Who sends, to which address of a Service, with which policy and which endpoints, and what must happen. Every cell is a
row of one suite: it is put to the oracle, followed through the rules that each proxy mode writes, and sent as real
packets through the kernel in each mode, over IPv4 and IPv6, TCP and UDP. `make semantics` does that and writes this
page.

In a cell, `L` is an endpoint on the node that the packet enters, `R` one on another node; a star means that the
endpoint sees the node's address instead of the sender's. `reject` is refused at once, `drop` is never answered, `L|R`
is one of the two and always the same, `pass` is left to the rest of the network.

Senders: **pod**, a pod of this node; **endpoint**, the local endpoint itself; **node**, a process of the node;
**outside**, anybody else; **remote-pod**, a pod of another node that asks this one.

The rules are kube-proxy's, with one difference that is ours on purpose: towards endpoints on this node the sender's
address is kept, because the reply passes this node anyway (`keep_client_address`).

"""
SITUATIONS = {
    Situation.NONE: "no endpoint",
    Situation.LOCAL: "one here",
    Situation.REMOTE: "one elsewhere",
    Situation.BOTH: "both",
    Situation.UNREADY: "both unready",
    Situation.ENDING: "both ending, serving",
    Situation.HANDOVER: "here ending, elsewhere ready",
}


def main(*files: str) -> int:
    results: list[Result] = []
    for file in files:
        results += json.loads(Path(file).read_text())
    OUTPUT.write_text(page(results))
    failed = sum(result["outcome"] != "passed" for result in results)
    print(f"{OUTPUT.relative_to(ROOT)}: {len(results)} checks, {failed} failed")
    return 1 if failed or not results else 0


def page(results: Iterable[Result]) -> str:
    checks = list(results)
    wrong: dict[str, set[str]] = {}
    for result in checks:
        if result["outcome"] != "passed":
            wrong.setdefault(result["row"], set()).add(result["mode"] or "the oracle")
    lines = [
        "## Policies and endpoints",
        "",
        *_policies(wrong),
        "## Fields of a Service",
        "",
        *_aspects(wrong),
    ]
    return HEAD + "\n".join([*lines, "## What was checked", "", *_counts(checks)]) + "\n"


def _policies(wrong: dict[str, set[str]]) -> Iterator[str]:
    yield "Both traffic policies are the one in the second column."
    yield ""
    by_place = {(row.sender, row.frontend, row.policy, row.situation): row for row in ROWS}
    for sender in Sender:
        yield f"### From {sender.value}"
        yield ""
        yield f"| to | policy | {' | '.join(SITUATIONS[situation] for situation in Situation)} |"
        yield "|---" * (2 + len(Situation)) + "|"
        for frontend, policy in itertools.product(FrontendKind, Policy):
            cells = [_cell(by_place[sender, frontend, policy, situation], wrong) for situation in Situation]
            yield f"| {frontend.value} | {policy.value} | {' | '.join(cells)} |"
        yield ""


def _aspects(wrong: dict[str, set[str]]) -> Iterator[str]:
    yield "One ready endpoint here and one elsewhere; what is not named has its default."
    yield ""
    by_place = {(row.aspect, row.sender, row.frontend): row for row in ASPECT_ROWS}
    for aspect in Aspect:
        yield f"### {aspect.value}"
        yield ""
        yield f"| from | {' | '.join(frontend.value for frontend in FrontendKind)} |"
        yield "|---" * (1 + len(FrontendKind)) + "|"
        for sender in Sender:
            cells = [_cell(by_place[aspect, sender, frontend], wrong) for frontend in FrontendKind]
            yield f"| {sender.value} | {' | '.join(cells)} |"
        yield ""


def _cell(row: Row | AspectRow, wrong: dict[str, set[str]]) -> str:
    text = f"`{row.expected}`".replace("|", "\\|")
    modes = wrong.get(str(row))
    return f"{text} (not in {', '.join(sorted(modes))})" if modes else text


def _counts(checks: list[Result]) -> Iterator[str]:
    """How much of the suite went through what: a hole shows as a number that is too small."""
    passed = Counter(
        (check["stage"], check["mode"], check["family"]) for check in checks if check["outcome"] == "passed"
    )
    every = (len(ROWS) + len(ASPECT_ROWS)) * len(PROTOCOLS)
    yield f"{len(ROWS) + len(ASPECT_ROWS)} rows, each over {' and '.join(PROTOCOLS)}."
    yield ""
    yield "| family | through | rows that did as they say |"
    yield "|---|---|---|"
    stages = {
        "oracle": "the oracle",
        "rules": "the rules of mode {}",
        "packets": "the kernel, as packets, in mode {}",
    }
    places = sorted(
        {(check["family"], check["stage"], check["mode"]) for check in checks},
        key=lambda place: (place[0], list(stages).index(place[1]), place[2]),
    )
    for family, stage, mode in places:
        done = passed[stage, mode, family]
        yield f"| {family} | {stages[stage].format(mode)} | {done} of {every} |"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
