"""What a command says when it cannot: one sentence on standard error, exit code 1.

::

    click.ClickException
    ├── UserError       the command was given something it cannot use
    ├── Unreachable     no server answers
    └── ServerRefused   the API refused the request
"""

from __future__ import annotations

from typing import IO, Any

import click

from nodeport.api.status import ApiError


class UserError(click.ClickException):
    """Shown as ``error: ...``."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.format_message()}", err=True, file=file)


class Unreachable(UserError):
    """No server, or none that we trust, at the address in the kubeconfig."""


class ServerRefused(click.ClickException):
    """Shown as kubectl shows it: ``Error from server (NotFound): services "x" not found``."""

    def __init__(self, error: ApiError, *, while_doing: str = "") -> None:
        self.error = error
        self.while_doing = while_doing
        super().__init__(error.message)

    def format_message(self) -> str:
        message = f"{self.while_doing}: {self.error.message}" if self.while_doing else self.error.message
        if self.error.reason == "Invalid" and not self.while_doing:
            return message if message.startswith("The ") else f"The {message}"
        return f"Error from server ({self.error.reason}): {message}"

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.format_message(), err=True, file=file)
