"""How runc is called: a thin layer of command lines. What is run is `spec`'s; the launcher starts it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nodeport.api.meta import JsonObject
from nodeport.node.oci import program

CALL_LIMIT = 10.0
"""Seconds for a call that only tidies up."""


@dataclass(frozen=True, slots=True)
class Runc:
    """One program; each pod has a state directory (``root``) of its own, which goes with the pod."""

    path: str

    @classmethod
    def found(cls) -> Runc:
        """The machine's. Raises RuntimeMissing."""
        return cls(program.find())

    def prefix(self, root: Path) -> list[str]:
        """What every command line begins with."""
        return [self.path, "--root", str(root)]

    async def delete(self, root: Path, container: str) -> None:
        """Kill what is left of a container and forget it; nothing when it is gone already."""
        await self._call([*self.prefix(root), "delete", "--force", container])

    async def kill_all(self, root: Path, container: str) -> None:
        """SIGKILL to every process of the container."""
        await self._call([*self.prefix(root), "kill", "--all", container, "KILL"])

    async def update(self, root: Path, container: str, resources: JsonObject) -> None:
        """Change what a container may use. Raises OSError with the runtime's words."""
        argv = [*self.prefix(root), "update", "--resources", "-", container]
        pipe, quiet = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=quiet, stderr=pipe)
        try:
            async with asyncio.timeout(CALL_LIMIT):
                _, said = await process.communicate(json.dumps(resources).encode())
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise OSError(f"the runtime took more than {CALL_LIMIT:g} s to change a container") from error
        if process.returncode:
            raise OSError(_last_line(said) or f"the runtime ended with {process.returncode}")

    async def _call(self, argv: Sequence[str]) -> None:
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*argv, stdin=quiet, stdout=quiet, stderr=quiet)
        try:
            await asyncio.wait_for(process.wait(), CALL_LIMIT)
        except TimeoutError:
            process.kill()
            await process.wait()


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
