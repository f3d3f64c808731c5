"""Make ``docs/reference/clients.md`` from what the tests of ``tests/clients`` wrote of their outcomes.

python tools/make_clients.py RESULTS [output]
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

OUTPUT = "docs/reference/clients.md"
HEAD = """\
# Clients

Every verb of kubectl and every client below was used on a real cluster of two nodes; `make clients` does it again and
writes this page. ✓: it worked. A word instead says why not. A version that does not know a verb is not counted.

"""


def span(versions: list[str]) -> str:
    """``1.20 to 1.37`` or the one version."""
    ordered = sorted(versions, key=lambda version: [int(part) for part in version.split(".")])
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def cell(outcomes: list[dict[str, Any]]) -> str:
    failed = [each for each in outcomes if each["outcome"] != "passed"]
    if not failed:
        return "✓"
    why = failed[0]["why"].replace("|", "\\|")
    return f"not with {', '.join(each['version'] for each in failed)}: {why}"


def kubectl_table(results: list[dict[str, Any]]) -> list[str]:
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for each in results:
        rows[each["verb"], each["use"]].append(each)
    versions = sorted({each["version"] for each in results})
    lines = [f"## kubectl {span(versions)}", "", f"Versions used: {', '.join(versions)}.", ""]
    lines += ["| verb | use | versions | outcome |", "|---|---|---|---|"]
    for (verb, use), outcomes in sorted(rows.items()):
        used = span([each["version"] for each in outcomes])
        lines.append(f"| `{verb}` | {use.replace('|', chr(92) + '|')} | {used} | {cell(outcomes)} |")
    return [*lines, ""]


def program_table(results: list[dict[str, Any]]) -> list[str]:
    lines = ["## Other clients", "", "| client | version | use | outcome |", "|---|---|---|---|"]
    for each in results:
        lines.append(f"| {each['client']} | {each['version']} | {each['use']} | {cell([each])} |")
    return [*lines, ""]


def main(results: str, output: str = OUTPUT) -> None:
    found = json.loads(Path(results).read_text())
    kubectl = [each for each in found if each["client"] == "kubectl"]
    others = sorted((each for each in found if each["client"] != "kubectl"), key=lambda each: each["client"])
    Path(output).write_text(HEAD + "\n".join([*kubectl_table(kubectl), *program_table(others)]))
    failed = sum(each["outcome"] != "passed" for each in found)
    print(f"{output}: {len(found)} uses, {failed} failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
