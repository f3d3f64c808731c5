"""The HTTP upgrade to SPDY/3.1, as clients ask for it that do not use WebSockets (or tunnel it in one)."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from nodeport.api.status import BadRequest, Forbidden
from nodeport.apiserver.streams.bytestreams import TakenConnection, switch_protocols

SPDY = "SPDY/3.1"
STREAM_PROTOCOL = "X-Stream-Protocol-Version"


def asks_for_spdy(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").upper() == SPDY


def agreed_stream_protocol(request: web.BaseRequest, known: Sequence[str]) -> str:
    """What the streams are to mean: the first of the client's list that is known; 403 when there is none."""
    values = request.headers.getall(STREAM_PROTOCOL, [])
    offered = [word.strip() for value in values for word in value.split(",") if word.strip()]
    found = next((word for word in offered if word in known), None)
    if found is None:
        raise Forbidden(
            f"unable to upgrade: unable to negotiate protocol: client supports [{' '.join(offered)}], "
            f"server accepts [{' '.join(known)}]"
        )
    return found


async def upgrade_to_spdy(request: web.BaseRequest, protocol: str) -> TakenConnection:
    """The connection, as bytes of SPDY; 400 when the request cannot be upgraded."""
    if "upgrade" not in request.headers.get("Connection", "").lower():
        raise BadRequest("unable to upgrade: missing upgrade headers in request")
    return await switch_protocols(
        request, {"Connection": "Upgrade", "Upgrade": SPDY, STREAM_PROTOCOL: protocol}
    )
