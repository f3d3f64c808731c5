"""Writes docs/reference/commands.md from the commands themselves, so that the reference cannot fall behind."""

from __future__ import annotations

from pathlib import Path

import click

from nodeport.cli.main import main as nodeport

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "commands.md"


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


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(render(nodeport))
