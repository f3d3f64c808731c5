"""``nodeport token``: bootstrap tokens, by which further machines are let in."""

from __future__ import annotations

import secrets
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from nodeport.api.resources import SECRETS
from nodeport.cli.errors import UserError
from nodeport.cli.session import Session, connected
from nodeport.kit.clock import rfc3339

GROUP = "system:bootstrappers:kubeadm:default-node-token"
NAMESPACE = "kube-system"
ID_LENGTH, SECRET_LENGTH = 6, 16
LONGEST_HOURS = 24 * 365
_LETTERS = string.ascii_lowercase + string.digits


@click.group(short_help="Make tokens by which further machines join.")
def command() -> None:
    """Make bootstrap tokens, by which further machines join the cluster."""


@command.command("create")
@click.option(
    "--ttl-hours", type=click.IntRange(1, LONGEST_HOURS), default=24, show_default=True,
    help="How long the token holds.",
)  # fmt: skip
@click.option(
    "--write-kubeconfig", type=click.Path(path_type=Path),
    help="Also write a kubeconfig with the token here, for `nodeport agent --bootstrap-kubeconfig`.",
)  # fmt: skip
@click.option(
    "--server", default="", help="How that machine reaches the API.  [default: as this command does]"
)
@connected
def create(session: Session, ttl_hours: int, write_kubeconfig: Path | None, server: str) -> None:
    """Make a token and print it: good for asking for a node's certificate, and nothing else.

    \b
    nodeport token create --write-kubeconfig join.kubeconfig --server https://192.0.2.1:6443
    """
    if server and not server.startswith("https://"):
        raise UserError(f"--server {server}: must be a URL such as https://192.0.2.1:6443")
    token_id, secret = _random(ID_LENGTH), _random(SECRET_LENGTH)
    until = datetime.now(UTC) + timedelta(hours=ttl_hours)
    session.request(
        "POST", SECRETS.path(NAMESPACE), body={
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": f"bootstrap-token-{token_id}"},
            "stringData": {
                "token-id": token_id, "token-secret": secret, "expiration": rfc3339(until),
                "usage-bootstrap-authentication": "true", "auth-extra-groups": GROUP,
            },
        },
    )  # fmt: skip
    token = f"{token_id}.{secret}"
    if write_kubeconfig is not None:
        _write(session, write_kubeconfig, token, server)
    click.echo(token)


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def _write(session: Session, path: Path, token: str, server: str) -> None:
    from nodeport.client import kubeconfig

    config = session.config
    try:
        kubeconfig.merge(
            path, name="bootstrap", server=server or config.server, ca=config.ca or b"", token=token
        )
    except (OSError, kubeconfig.KubeconfigError) as error:
        raise UserError(f"--write-kubeconfig {path}: {error}") from error
