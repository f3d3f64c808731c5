"""A click command that reads its command line as pflag, the library of Kubernetes' components, does.

``--flag`` alone sets a boolean, ``--flag=false`` clears it and never takes the next word; ``_`` in a name means ``-``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click


class PflagGroup(click.Group):
    """``booleans``: the names of options that need no value."""

    booleans: frozenset[str] = frozenset()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, rewritten(args, self.booleans, self._valued()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            words = ", ".join(sorted(self.commands))
            raise click.UsageError(
                f"{ctx.command_path!r} takes no arguments but {words}, got {args[0]!r}", ctx
            )
        return super().resolve_command(ctx, args)

    def _valued(self) -> frozenset[str]:
        names = (option.removeprefix("--") for parameter in self.params for option in parameter.opts)
        return frozenset(names) - self.booleans - {"help"}


def rewritten(args: Sequence[str], booleans: frozenset[str], valued: frozenset[str]) -> list[str]:
    """``args`` as click understands them, up to the first word that is no flag; the rest as it is."""
    made: list[str] = []
    words = iter(args)
    for word in words:
        if word in ("--", "-", "-h") or not word.startswith("-"):
            return [*made, word, *words]
        made += _one(word, words, booleans, valued)
    return made


def _one(word: str, words: Any, booleans: frozenset[str], valued: frozenset[str]) -> Iterable[str]:
    name, equals, value = word.partition("=")
    if not name.startswith("--") and name[1:2] == "v":  # the one flag with a short form: -v=4, -v4, -v 4
        value = value if equals else name[2:]
        name, equals = "--v", "=" if value else ""
    name = "--" + name.removeprefix("--").replace("_", "-")
    if equals:
        return (f"{name}={value}",)
    if name.removeprefix("--") in booleans:
        return (f"{name}=true",)
    if name.removeprefix("--") in valued:
        following = next(words, None)
        return (name,) if following is None else (f"{name}={following}",)
    return (name,)
