"""An API server on a SQLite store, to be killed: ``crash_server.py DATABASE`` prints its port, then serves."""

from __future__ import annotations

import asyncio
import sys
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from nodeport.apiserver.auth import User
from nodeport.apiserver.server import ApiServer, ApiServerConfig
from nodeport.store.sqlite import SqliteStore

CIDRS = (IPv4Network("10.96.0.0/16"), IPv6Network("fd00:96::/112"))


async def main(database: Path) -> None:
    async with await SqliteStore.open(database) as store:
        admin = User("admin", ("system:masters",))
        config = ApiServerConfig(
            store, listen=(("127.0.0.1", 0),), tokens={"token": admin}, service_cidrs=CIDRS
        )
        server = ApiServer(config)
        task = asyncio.create_task(server.run())
        await server.wait_until_serving()
        print(server.addresses[0][1], flush=True)
        await task


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
