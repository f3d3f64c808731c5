"""``nodeport``: the group of commands, and the one place where errors become words for the person at the terminal."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from nodeport import KUBERNETES_VERSION, __version__
from nodeport.api.status import ApiError
from nodeport.cli.errors import ServerRefused, told

COMMANDS: tuple[str, ...] = (
    "up", "down", "status", "node", "service", "get", "apply", "delete", "expose", "scale", "server", "nodes", "agent",
    "proxy", "token", "image",
)  # fmt: skip
"""In the order that help shows. ``nodeport.cli.NAME`` holds the ``click.Command`` named ``command``."""


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"nodeport.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"nodeport.cli.{cmd_name}.command is not a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise click.UsageError(f"unknown command {name!r}; commands are {', '.join(COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ApiError as error:
            raise ServerRefused(error) from error

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """End quietly when the reader of the output has gone or the user has had enough."""
        try:
            result = super().main(args, *rest, **{**options, "standalone_mode": False})
            sys.stdout.flush()
        except click.UsageError as error:
            sys.exit(_show_usage_error(error))
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        sys.exit(result if isinstance(result, int) else 0)


def _show_usage_error(error: click.UsageError) -> int:
    """A mistake in one sentence, and where to read on; returns the exit code. A bare group shows its help."""
    if isinstance(error, NoArgsIsHelpError):
        error.show(sys.stdout)
        return 0
    click.echo(f"error: {told(error)}", err=True)
    return 1


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, message=f"nodeport {__version__} (Kubernetes {KUBERNETES_VERSION})")
def main() -> None:
    """Kubernetes Services, NodePort above all, as a complete standalone system."""
