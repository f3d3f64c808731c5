"""What a registry has, over its API: https://github.com/opencontainers/distribution-spec (version 2, pulls only).

Tokens: https://distribution.github.io/distribution/spec/auth/token/. Everything that is fetched is checked against its
digest. Credentials go to the registry and to the token server that it names, and to nobody that a redirect leads to.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import aiohttp
from yarl import URL

from nodeport import __version__
from nodeport.node.images.causes import cause
from nodeport.node.images.credentials import Credentials
from nodeport.node.images.manifests import ACCEPTED, MOST_BYTES, Descriptor, digest_of
from nodeport.node.images.references import DEFAULT_REGISTRY, Reference

CONNECT, SILENCE = 30.0, 60.0
"""Seconds to connect, and without a byte, after which a pull is given up."""
CHUNK = 1 << 18
_CHALLENGE = re.compile(r'([A-Za-z]+)="([^"]*)"')
_TOKEN = re.compile(r"[!-~]+")
_REFUSED = (401, 403)


class RegistryError(Exception):
    """The registry has it not, gives it not, or cannot be reached; one sentence without any secret."""


@dataclass(frozen=True, slots=True)
class Registries:
    """``default``: where names without a registry come from; empty: from nowhere. ``insecure``: hosts that are
    spoken to over plain HTTP, as those of loopback are."""

    default: str = ""
    insecure: frozenset[str] = frozenset()

    def host_of(self, reference: Reference) -> str:
        """HOST[:PORT] to ask; empty when there is none."""
        return self.default if reference.registry == DEFAULT_REGISTRY else reference.registry

    def url(self, host: str) -> URL:
        """Raises RegistryError."""
        try:
            scheme = "http" if host in self.insecure or is_loopback(host) else "https"
            return URL(f"{scheme}://{host}/v2/")
        except ValueError as error:
            raise RegistryError(f"{host} is no registry: {error}") from error


def is_loopback(host: str) -> bool:
    name = URL(f"//{host}").host or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


class Registry:
    """One registry, for one repository. A context manager. ``credentials``: tried in turn, then none at all."""

    def __init__(self, url: URL, repository: str, credentials: Sequence[Credentials] = ()) -> None:
        self._url, self._repository = url, repository
        self._untried: list[Credentials | None] = [*credentials, None]
        self._credentials = self._untried.pop(0)
        self._authorization, self._is_accepted = "", False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Registry:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE)
        headers = {"User-Agent": f"nodeport/{__version__}", "Accept-Encoding": "identity"}
        proxied = not is_loopback(self._url.authority)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=proxied, auto_decompress=False)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def manifest(self, reference: str) -> bytes:
        """By tag or digest; a digest is checked. Raises RegistryError."""
        async with self._get(f"manifests/{reference}", accept=", ".join(ACCEPTED)) as response:
            content = await _limited(response)
        if reference.startswith("sha256:") and digest_of(content) != reference:
            raise RegistryError(
                f"{self._host} gave a manifest with the digest {digest_of(content)} as {reference}"
            )
        return content

    async def document(self, descriptor: Descriptor) -> bytes:
        """A small blob. Raises RegistryError."""
        async with self._get(f"blobs/{descriptor.digest}") as response:
            content = await _limited(response)
        if digest_of(content) != descriptor.digest:
            raise RegistryError(f"{self._host} gave content with another digest as {descriptor.digest}")
        return content

    async def fetch(self, descriptor: Descriptor, target: Path) -> None:
        """A blob into a file. Raises RegistryError, OSError when the disk is full."""
        found, size = hashlib.sha256(), 0
        async with self._get(f"blobs/{descriptor.digest}") as response:
            with target.open("wb") as file:
                async for chunk in response.content.iter_chunked(CHUNK):
                    size += len(chunk)
                    if size > descriptor.size:
                        break
                    found.update(chunk)
                    file.write(chunk)
        if size != descriptor.size or f"sha256:{found.hexdigest()}" != descriptor.digest:
            raise RegistryError(
                f"{self._host} gave other content as {descriptor.digest} of {descriptor.size} bytes"
            )

    @property
    def _host(self) -> str:
        return self._url.authority

    @asynccontextmanager
    async def _get(self, path: str, accept: str = "*/*") -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a GET that was allowed."""
        url = self._url.joinpath(self._repository, *path.split("/", 1))
        try:
            while True:
                headers = {"Accept": accept}
                if self._authorization:
                    headers["Authorization"] = self._authorization
                async with self._session.get(url, headers=headers) as response:
                    if response.status in _REFUSED and await self._authorize(response):
                        continue
                    if response.status != 200:
                        raise RegistryError(await _words(response, f"{self._host}/{self._repository}"))
                    self._is_accepted = True
                    yield response
                    return
        except (aiohttp.ClientError, ssl.SSLError, TimeoutError) as error:
            raise RegistryError(f'failed to do request: Get "{url}": {cause(error)}') from error

    async def _authorize(self, response: aiohttp.ClientResponse) -> bool:
        """Become somebody else, if there is anybody left to be; False when this refusal stands."""
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        if self._authorization and not self._is_accepted:
            if not self._untried:
                return False
            self._credentials = self._untried.pop(0)
        self._is_accepted = False  # a token that was good has run out
        match kind.lower():
            case "basic" if self._credentials:
                self._authorization = self._credentials.basic()
            case "bearer":
                self._authorization = await self._token(dict(_CHALLENGE.findall(rest)))
            case _:
                return False
        return True

    async def _token(self, challenge: dict[str, str]) -> str:
        """A token of the server that the registry names, for these credentials. Raises RegistryError."""
        try:
            realm = URL(challenge.get("realm", ""))
        except ValueError as error:
            raise RegistryError(f"{self._host} names no server for tokens: {error}") from error
        if realm.scheme != "https" and not (realm.scheme == "http" and self._url.scheme == "http"):
            raise RegistryError(f"{self._host} names {realm} for tokens: it must be an https URL")
        query = {"service": challenge.get("service", ""), "scope": f"repository:{self._repository}:pull"}
        while True:
            headers = {"Authorization": self._credentials.basic()} if self._credentials else {}
            async with self._session.get(realm.update_query(query), headers=headers) as response:
                if response.status in _REFUSED and self._untried:
                    self._credentials = self._untried.pop(0)
                    continue
                if response.status != 200:
                    raise RegistryError(await _words(response, str(realm)))
                try:
                    found = json.loads(await _limited(response))
                    token = found.get("token") or found["access_token"]
                    if _TOKEN.fullmatch(token):
                        return f"Bearer {token}"
                except (ValueError, KeyError, AttributeError, TypeError):
                    pass
                raise RegistryError(f"{realm} gave no token")


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        content += chunk
        if len(content) > MOST_BYTES:
            raise RegistryError(f"{response.url.authority} gave a document of more than {MOST_BYTES} bytes")
    return bytes(content)


async def _words(response: aiohttp.ClientResponse, who: str) -> str:
    """The registry's own, if it has any."""
    try:
        first = json.loads(await _limited(response))["errors"][0]
        said = f"{first['code']}: {first.get('message', '')}".strip(": ")
    except (ValueError, LookupError, TypeError, RegistryError):
        said = response.reason or ""
    return f"{who} answers {response.status} ({said[:200]})"
