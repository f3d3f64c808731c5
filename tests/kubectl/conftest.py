"""A real kubectl, oldest and newest, against an API server in this process."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodeport.testing.apiserver import running_apiserver
from tooling import tool_module

PATIENCE_SECONDS = 60


VERSIONS: list[str] = tool_module("kubectl").WORDS["ends"]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True)
class Kubectl:
    """``await kubectl("get", "svc")``; fails the test unless kubectl succeeds, or fails when ``fails`` says so."""

    program: Path
    kubeconfig: Path
    cache: Path
    version: str

    def command(self, *words: str) -> list[str]:
        return [str(self.program), f"--cache-dir={self.cache}", *words]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.cache),
            "TZ": "UTC",
        }

    async def start(self, *words: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.command(*words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self.environment, **environment},
        )

    async def __call__(self, *words: str, stdin: str = "", fails: bool = False, **environment: str) -> Result:
        process = await self.start(*words, **environment)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                out, err = await process.communicate(stdin.encode())
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        result = Result(process.returncode, out.decode(), err.decode())
        assert (result.code != 0) is fails, f"kubectl {' '.join(words)}: {result}"
        return result


@pytest.fixture(params=VERSIONS)
async def kubectl(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kubectl]:
    program = await asyncio.to_thread(tool_module("kubectl").kubectl, request.param)
    async with running_apiserver() as api:
        kubeconfig = api.write_kubeconfig(tmp_path / "kubeconfig")
        yield Kubectl(program, kubeconfig, tmp_path / "cache", request.param)
