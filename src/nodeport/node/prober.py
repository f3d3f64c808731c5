"""Asks a container how it is: over HTTP, TCP and gRPC from the node, and by commands through the runtime."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodeport.api.duration import go_duration
from nodeport.node.actions import Action, Exec, Grpc, HttpGet, Sleep, TcpSocket
from nodeport.node.probes import Outcome, Probe, ProbeResult
from nodeport.node.reach import Reach
from nodeport.node.webget import USER_AGENT, RequestFailed, address_of, url_of

if TYPE_CHECKING:
    from nodeport.node.grpchealth import Checked, HealthCall

GRPC_READ = 65536
PATIENT_SHARE = 0.9
"""Of the first round's timeout: what is left is for telling that nobody listened."""


@dataclass(slots=True)
class Prober:
    """For one run of one container."""

    reach: Reach

    async def ask(self, probe: Probe, *, first: bool = False) -> ProbeResult:
        """One result within the probe's timeout.

        In a probe's first round a refused connection is tried again until the timeout: the program may be starting,
        and the next round would come a whole period later.
        """
        action = probe.action
        if isinstance(action, HttpGet | TcpSocket) and isinstance(action.port, str):
            return ProbeResult(Outcome.UNKNOWN, f'strconv.Atoi: parsing "{action.port}": invalid syntax')
        deadline = asyncio.get_running_loop().time() + probe.timeout.total_seconds()
        patience = probe.timeout.total_seconds() * PATIENT_SHARE if first else 0.0
        try:
            if isinstance(action, Grpc):
                return await self._ask_grpc(action, deadline, go_duration(probe.timeout), patience=patience)
            async with asyncio.timeout_at(deadline):
                return await self._ask(probe, patience=patience)
        except TimeoutError:
            return ProbeResult(Outcome.FAILURE, self._too_late(action, go_duration(probe.timeout)))
        except RequestFailed as error:
            return ProbeResult(Outcome.FAILURE, str(error))
        except OSError as error:
            return ProbeResult(Outcome.UNKNOWN, str(error))

    async def _ask(self, probe: Probe, *, patience: float) -> ProbeResult:
        match probe.action:
            case HttpGet() as http:
                return await self._ask_http(http, patience=patience)
            case TcpSocket(port, host):
                sock = await self.reach.dialer.connect(
                    host or str(self.reach.address), int(port), patience=patience
                )
                sock.close()
            case Exec(command):
                code, output = await self.reach.execute(command, probe.timeout)
                return ProbeResult(Outcome.FAILURE if code else Outcome.SUCCESS, output)
            case Sleep(seconds):
                await asyncio.sleep(seconds)
        return ProbeResult(Outcome.SUCCESS)

    async def _ask_http(self, http: HttpGet, *, patience: float) -> ProbeResult:
        """Any status from 200 to 399 is a success; one that leads to another host is not followed."""
        answer = await self.reach.dialer.get(http, http.host or str(self.reach.address), patience=patience)
        if not 200 <= answer.status < 400:
            return ProbeResult(Outcome.FAILURE, f"HTTP probe failed with statuscode: {answer.status}")
        if answer.status >= 300:
            return ProbeResult(Outcome.WARNING, f"Probe terminated redirects, Response body: {answer.body}")
        return ProbeResult(Outcome.SUCCESS, answer.body)

    async def _ask_grpc(self, grpc: Grpc, deadline: float, limit: str, *, patience: float) -> ProbeResult:
        """Raises TimeoutError while there is no connection yet."""
        from nodeport.node import grpchealth  # the protocol's library is for those only who use it

        authority = address_of(str(self.reach.address), grpc.port)
        try:
            async with asyncio.timeout_at(deadline):
                sock = await self.reach.dialer.connect(str(self.reach.address), grpc.port, patience=patience)
        except RequestFailed as error:
            words = f'error: failed to connect service at "{authority}": connection error: {error}'
            return ProbeResult(Outcome.FAILURE, words)
        call = grpchealth.HealthCall(authority, grpc.service, USER_AGENT)
        try:
            async with asyncio.timeout_at(deadline):
                await _converse(sock, call)
        except TimeoutError:
            return ProbeResult(Outcome.FAILURE, f"timeout: health rpc did not complete within {limit}")
        except OSError as error:
            return ProbeResult(Outcome.FAILURE, f"error: health rpc probe failed: {error}")
        assert call.result is not None
        return grpc_result(call.result)

    def _too_late(self, action: Action, timeout: str) -> str:
        match action:
            case HttpGet() as http:
                url = url_of(http, http.host or str(self.reach.address))
                return (
                    f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
                )
            case TcpSocket(port, host):
                return f"dial tcp {address_of(host or str(self.reach.address), int(port))}: i/o timeout"
            case Grpc(port):
                where = address_of(str(self.reach.address), port)
                return f'timeout: failed to connect service "{where}" within {timeout}: context deadline exceeded'
            case Exec(command):
                return f'command timed out: "{" ".join(command)}" timed out after {timeout}'
        return f"no answer within {timeout}"


async def _converse(sock: socket.socket, call: HealthCall) -> None:
    """Until the call has its result. Raises OSError."""
    try:
        reader, writer = await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(call.opening)
        while call.result is None:
            writer.write(call.receive(await reader.read(GRPC_READ)))
    finally:
        writer.close()


def grpc_result(checked: Checked) -> ProbeResult:
    from nodeport.node.grpchealth import UNIMPLEMENTED, ServingStatus

    if checked.code == UNIMPLEMENTED:
        words = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return ProbeResult(Outcome.FAILURE, f"{words}: {checked.message}")
    if checked.code:
        said = f"rpc error: code = {checked.code_name} desc = {checked.message}"
        return ProbeResult(Outcome.FAILURE, f"error: health rpc probe failed: {said}")
    if checked.status == ServingStatus.SERVING:
        return ProbeResult(Outcome.SUCCESS, "service healthy")
    known = checked.status in list(ServingStatus)
    name = ServingStatus(checked.status).name if known else str(checked.status)
    return ProbeResult(Outcome.FAILURE, f'service unhealthy (responded with "{name}")')
