"""How a machine gets its node's certificate: with a bootstrap token it asks, and somebody approves."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from nodeport.api.status import ApiError
from nodeport.client import kubeconfig
from nodeport.client.rest import RestClient, TransportError
from nodeport.kit.clock import Clock
from nodeport.kit.logs import get_logger
from nodeport.node import certificaterequests
from nodeport.node.certificaterequests import NotGranted

CLUSTER = "default"
_log = get_logger(__name__)


class JoinError(Exception):
    """The machine is not let in; one sentence."""


async def join(bootstrap: Path, target: Path, node: str, clock: Clock) -> None:
    """Write a kubeconfig with the node's own certificate to ``target``, asking with that of ``bootstrap``.

    Waits until the request is approved. Raises JoinError when it is refused, KubeconfigError for a bad file.
    """
    config = kubeconfig.load(bootstrap)
    key = ec.generate_private_key(ec.SECP256R1())
    async with RestClient(config, user_agent="nodeport-agent") as client:
        try:
            request = certificaterequests.client_request(node, key)
            certificate = await certificaterequests.ask(client, request, clock)
        except NotGranted as error:
            raise JoinError(str(error)) from error
        except ApiError as error:
            raise JoinError(f"the cluster does not let node {node!r} in: {error}") from error
        except TransportError as error:
            raise JoinError(f"{config.server} does not answer: {error}") from error
    private = certificaterequests.private_pem(key)
    kubeconfig.merge(
        target, name=CLUSTER, server=config.server, ca=config.ca or b"", cert=certificate, key=private
    )
    _log.info("node %s has a certificate of its own: %s", node, target)
