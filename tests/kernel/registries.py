"""A real registry on loopback, and what others do with it: push images, and hand out tokens for it."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import socket
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from freeports import free_port
from kernel.clusters import wait_for
from tooling import tool
from unit.node.layerbytes import config, described, digest, manifest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
USER, PASSWORD = "reader", "open:sesame"
ISSUER, SERVICE = "test-tokens", "test-registry"


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port)):
        return True


@dataclass
class RunningRegistry:
    """``blobs``: where it keeps them. ``log``: its access log."""

    host: str
    folder: Path
    authorization: str = ""

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def fetched(self, content: bytes) -> int:
        """How often somebody has got this blob."""
        return self.log.count(f'"GET /v2/demo/app/blobs/{digest(content)} HTTP/1.1" 200')

    def blob_file(self, name: str) -> Path:
        """By its digest; manifests are blobs too."""
        hexadecimal = name[7:]
        return self.folder / f"data/docker/registry/v2/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
        with closing(http.client.HTTPConnection(self.host, timeout=60)) as connection:
            if self.authorization:
                headers["Authorization"] = self.authorization
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            said = response.read()
            assert response.status < 300, f"{method} {path}: {response.status} {said!r}"
            return response

    def push_blob(self, repository: str, content: bytes) -> None:
        started = self.send("POST", f"/v2/{repository}/blobs/uploads/")
        place = urllib.parse.urlsplit(started.headers["Location"])
        query = f"{place.query}&" if place.query else ""
        self.send(
            "PUT",
            f"{place.path}?{query}digest={digest(content)}",
            content,
            **{"Content-Type": "application/octet-stream"},
        )

    def push_manifest(self, repository: str, tag: str, content: bytes, kind: str = MANIFEST) -> None:
        self.send("PUT", f"/v2/{repository}/manifests/{tag}", content, **{"Content-Type": kind})

    def push(
        self, repository: str, tag: str, layers: Sequence[bytes], blobs: Sequence[bytes] = (), **wishes: Any
    ) -> str:
        """``blobs``: the layers as they are sent, where they are packed. Returns the manifest's digest."""
        content, blobs = config(layers, **wishes), blobs or layers
        document = {**json.loads(manifest(content, blobs)), "mediaType": MANIFEST}
        for each in (content, *blobs):
            self.push_blob(repository, each)
        self.push_manifest(repository, tag, json.dumps(document).encode())
        return digest(json.dumps(document).encode())

    def push_index(self, repository: str, tag: str, manifests: Sequence[tuple[str, int, str]]) -> str:
        """``manifests``: digest, size and architecture of what is there already."""
        entries = [
            {
                **described(b""),
                "digest": name,
                "size": size,
                "mediaType": MANIFEST,
                "platform": {"os": "linux", "architecture": machine},
            }
            for name, size, machine in manifests
        ]
        content = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
        self.push_manifest(repository, tag, content, INDEX)
        return digest(content)


@contextmanager
def registry(folder: Path, auth: dict[str, Any] | None = None) -> Iterator[RunningRegistry]:
    folder.mkdir()
    port = free_port()
    host = f"127.0.0.1:{port}"
    settings = {
        "version": "0.1", "log": {"accesslog": {"disabled": False}, "level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": host, "secret": secrets.token_hex(8)}, **({"auth": auth} if auth else {}),
    }  # fmt: skip
    (folder / "config.yml").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        program = subprocess.Popen(
            [tool("registry"), "serve", str(folder / "config.yml")], stdout=log, stderr=log, env={}
        )
    try:
        wait_for(lambda: listens(port), "the registry")
        yield RunningRegistry(host, folder)
    finally:
        program.terminate()
        program.wait()


class Tokens:
    """A token server: gives tokens for pulling to whoever knows the password, signed so that the registry takes them."""

    def __init__(self, folder: Path, lifetime: timedelta = timedelta(minutes=5)) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self.lifetime = lifetime
        self.given = 0
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = datetime.now(UTC)
        self._certificate = (
            x509.CertificateBuilder(
                name,
                name,
                self._key.public_key(),
                x509.random_serial_number(),
                now - timedelta(hours=1),
                now + timedelta(hours=1),
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, SHA256())
        )
        self.bundle = folder / "tokens.crt"
        self.bundle.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def token(self, scope: str) -> str:
        kind, name, actions = scope.split(":")
        now = datetime.now(UTC)
        claims = {
            "iss": ISSUER, "aud": SERVICE, "sub": USER, "iat": now, "nbf": now - timedelta(seconds=5), "exp": now + self.lifetime,
            "jti": secrets.token_hex(8), "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }  # fmt: skip
        chain = [base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()]
        key = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return jwt.encode(claims, key, algorithm="RS256", headers={"x5c": chain})

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The URL for the registry's ``realm``."""
        tokens = self
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                if self.headers.get("Authorization") != wanted:
                    self.send_error(401)
                    return
                assert query["service"] == SERVICE
                tokens.given += 1
                body = json.dumps({"token": tokens.token(query["scope"])}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/token"
            finally:
                server.shutdown()
                thread.join()
