"""Writes docs/reference/commands.md and proxy-flags.md from what they tell about, so that they cannot fall behind."""

from __future__ import annotations

from pathlib import Path

import click

from nodeport.api.kubeproxy.flags import Flag, Treatment
from nodeport.api.kubeproxy.flagtable import FIELDS, FLAGS
from nodeport.cli.main import main as nodeport

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
TARGET = REFERENCE / "commands.md"
FLAGS_TARGET = REFERENCE / "proxy-flags.md"
FLAGS_HEAD = """# Flags and fields of the proxy

Generated from the table that `nodeport proxy` parses its command line by (`make docs`). Every flag of kube-proxy 1.36
on Linux is accepted. What is not honoured does nothing and says so on standard error when it is set to anything but its
default; what cannot be meant (an unknown mode, a bad address) is refused with kube-proxy's own words.

A `KubeProxyConfiguration` file is read strictly first, as kube-proxy does: unknown and repeated fields are told on
standard error, and the file is used without them. A value of the wrong type is refused with the field's name. With
`--config` all other flags are ignored but those marked in the last column; `_` in a flag's name means `-`.
"""


def render(group: click.Group) -> str:
    """The whole page: one section a command, with its own ``--help`` text."""
    parts = ["# Commands", "", "Generated from `nodeport COMMAND --help` by `make docs`.", ""]
    context = click.Context(group, info_name="nodeport", terminal_width=100, max_content_width=100)
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        own = click.Context(
            command, info_name=name, parent=context, terminal_width=100, max_content_width=100
        )
        parts += [f"## nodeport {name}", "", "```text", command.get_help(own), "```", ""]
    return "\n".join(parts)


def render_flags() -> str:
    """The page about the proxy's flags: kube-proxy's, ours, and the fields of the file that have no flag."""
    theirs = [flag for flag in FLAGS if flag.treatment is not Treatment.OURS]
    ours = [flag for flag in FLAGS if flag.treatment is Treatment.OURS]
    columns = "| flag | value | default | field | here | beside `--config` |\n|---|---|---|---|---|---|"
    parts = [FLAGS_HEAD, "## Flags of kube-proxy", "", columns, *map(_flag_row, theirs), ""]
    parts += ["## Flags of our own", "", columns, *map(_flag_row, ours), ""]
    parts += ["## Fields without a flag", "", "| field | here |", "|---|---|"]
    for field in FIELDS:
        parts.append(f"| `{field.path}` | {_outcome(field.treatment, field.why)} |")
    return "\n".join([*parts, ""])


def _flag_row(flag: Flag) -> str:
    field = f"`{flag.path.replace('section.', '<mode>.')}`" if flag.path else ""
    default = f"`{flag.default}`" if flag.default else ""
    honoured = flag.help.partition("  [default")[0].rstrip(".")
    note = f"{honoured}; {flag.why}" if flag.why else honoured
    here = _outcome(flag.treatment, flag.why if flag.treatment is Treatment.IGNORED else note)
    beside = "counts" if flag.beside_file else ""
    return f"| `--{flag.name}` | {flag.form.name} | {default} | {field} | {here} | {beside} |"


def _outcome(treatment: Treatment, why: str) -> str:
    if treatment is Treatment.IGNORED:
        return f"**does nothing**: {why}"
    return why or "honoured"


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(render(nodeport))
    FLAGS_TARGET.write_text(render_flags())
