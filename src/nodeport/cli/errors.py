"""What a command says when it cannot: one sentence on standard error, exit code 1 unless 1 is an answer.

::

    click.ClickException
    ├── UserError       the command was given something it cannot use
    │   └── CannotTell  and its exit code 1 would be an answer
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


class CannotTell(UserError):
    """Of a command that compares: exit code 2, as diff(1) has it; 1 says that something differs."""

    exit_code = 2


class Unreachable(UserError):
    """No server, or none that we trust, at the address in the kubeconfig."""


class ServerRefused(click.ClickException):
    """Shown as kubectl shows it: ``Error from server (NotFound): services "x" not found``."""

    def __init__(self, error: ApiError, *, while_doing: str = "") -> None:
        self.error = error
        self.while_doing = while_doing
        super().__init__(error.message)

    def format_message(self) -> str:
        if self.error.reason == "Invalid" and self.error.details:
            return self._invalid()
        message = f"{self.while_doing}: {self.error.message}" if self.while_doing else self.error.message
        return f"Error from server ({self.error.reason}): {message}"

    def _invalid(self) -> str:
        """One fault in one line, several as a list."""
        details = self.error.details
        head = f'The {details.get("kind", "object")} "{details.get("name", "")}" is invalid: '
        causes = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in self.error.causes))
        match causes:
            case []:
                return head + self.error.message
            case [cause]:
                return head + cause
        return head + "".join(f"\n* {cause}" for cause in causes)

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.format_message(), err=True, file=file)


def told(error: click.ClickException) -> str:
    """In our words: a mistake in the command line as one sentence, and where to read on."""
    if not isinstance(error, click.UsageError):
        return error.format_message()
    sentence = error.format_message().rstrip(".")
    further = f"\nSee '{error.ctx.command_path} --help' for usage." if error.ctx is not None else ""
    return f"{sentence[:1].lower()}{sentence[1:]}{further}"


def leaves(error: BaseException) -> list[BaseException]:
    """What a group of errors consists of in the end."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in leaves(part)]


def sentence(group: BaseException, known: tuple[type[BaseException], ...]) -> str | None:
    """The errors of ``group`` in one line, each once; None when one of them is not ``known``, and so a bug."""
    found = leaves(group)
    if not all(isinstance(error, known) for error in found):
        return None
    return "; ".join(dict.fromkeys(map(str, found)))
