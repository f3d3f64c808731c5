"""The keys of ServiceAccount tokens: the newest signs, all of them verify; and the documents by which others verify.

The libraries are imported when the first token is signed or checked: most starts of a server need neither.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodeport.api.meta import JsonObject
from nodeport.kit.clock import Clock, SystemClock
from nodeport.kit.logs import get_logger

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

_UNCHECKED = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
LOOK_SECONDS = 1.0
"""How often the folder is looked at for keys that came or went."""
_log = get_logger("nodeport.apiserver")


@dataclass(frozen=True)
class Key:
    """An elliptic (ES256) or an RSA key (RS256). ``private`` None: it verifies only."""

    public: EllipticCurvePublicKey | RSAPublicKey
    private: EllipticCurvePrivateKey | RSAPrivateKey | None = None

    @cached_property
    def algorithm(self) -> str:
        from cryptography.hazmat.primitives.asymmetric import ec

        return "ES256" if isinstance(self.public, ec.EllipticCurvePublicKey) else "RS256"

    @cached_property
    def id(self) -> str:
        """The hash of the public key, so that it needs no other place to be remembered in."""
        from cryptography.hazmat.primitives import serialization

        public = self.public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.urlsafe_b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")

    def to_jwk(self) -> JsonObject:
        from jwt.algorithms import get_default_algorithms

        found: JsonObject = get_default_algorithms()[self.algorithm].to_jwk(self.public, as_dict=True)
        found.pop("key_ops", None)
        return {"use": "sig", "kid": self.id, "alg": self.algorithm, **found}


def read_key(path: Path) -> Key:
    """A private key in PEM, or, of a file ``.pub``, a public one. Raises ValueError, OSError."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    pem = path.read_bytes()
    if path.suffix == ".pub":
        public = serialization.load_pem_public_key(pem)
        if isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            return Key(public)
    else:
        private = serialization.load_pem_private_key(pem, password=None)
        if isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            return Key(private.public_key(), private)
    raise ValueError(f"{path}: neither an elliptic nor an RSA key")


class SigningKeys:
    """``path``: the first private key, ``sa.key``; beside it ``sa*.key`` and ``sa*.pub`` may come and go while the
    server runs. None: one key that lives as long as this object."""

    def __init__(self, path: Path | None, clock: Clock | None = None) -> None:
        self._path, self._clock = path, clock or SystemClock()
        self._keys: tuple[Key, ...] = ()
        self._seen: tuple[tuple[int, str, int], ...] = ()
        self._looked = float("-inf")
        self.version = 0
        """Grows when a key came or went: what was verified with another set may not hold any more."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The newest first. Raises ValueError, OSError when the first key cannot be read."""
        self.look()
        return self._keys

    @property
    def signer(self) -> Key:
        """The newest private key."""
        return next(key for key in self.keys if key.private is not None)

    def look(self) -> None:
        """Read the keys anew when their files have changed."""
        if self._path is None:
            self._keys = self._keys or (_new_key(),)
            return
        now = self._clock.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        seen = tuple(sorted(_files(self._path), reverse=True))
        if seen != self._seen or not self._keys:
            self._keys = self._read(self._path, [self._path.with_name(name) for _, name, _ in seen])
            self._seen = seen
            self.version += 1
        self._looked = now

    def _read(self, first: Path, paths: Iterable[Path]) -> tuple[Key, ...]:
        """A key that cannot be read is left out; when none is left that signs, nothing changes."""
        found = []
        for path in paths:
            try:
                found.append(read_key(path))
            except (ValueError, TypeError, OSError) as error:
                _log.error("%s is no key for ServiceAccount tokens: %s", path, error)
        if not any(key.private is not None for key in found):
            return self._keys or (read_key(first),)
        return tuple(found)

    def sign(self, claims: JsonObject) -> str:
        import jwt

        key = self.signer
        assert key.private is not None
        return jwt.encode(claims, key.private, algorithm=key.algorithm, headers={"kid": key.id})

    def verified(self, token: str) -> JsonObject | None:
        """The claims, none of them checked yet; None unless the signature is of one of the keys."""
        import jwt

        try:
            named = jwt.get_unverified_header(token).get("kid")
        except jwt.InvalidTokenError:
            return None
        for key in self.keys:
            if named is not None and named != key.id:
                continue
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key.public,
                    algorithms=[key.algorithm],
                    options=_UNCHECKED,  # type: ignore[arg-type]  # a TypedDict there, a mapping of its members here
                )
            except jwt.InvalidTokenError:
                continue
            return claims
        return None

    @property
    def algorithms(self) -> list[str]:
        return sorted({key.algorithm for key in self.keys})

    def key_set(self) -> JsonObject:
        """The public keys as a JSON Web Key Set."""
        return {"keys": [key.to_jwk() for key in self.keys]}


def _new_key() -> Key:
    from cryptography.hazmat.primitives.asymmetric import ec

    made = ec.generate_private_key(ec.SECP256R1())
    return Key(made.public_key(), made)


def _files(first: Path) -> Iterable[tuple[int, str, int]]:
    """(time of change, name, bytes) of each file of keys."""
    for pattern in (f"{first.stem}*.key", f"{first.stem}*.pub"):
        for path in first.parent.glob(pattern):
            try:
                found = path.stat()
            except OSError:
                continue  # gone meanwhile
            yield found.st_mtime_ns, path.name, found.st_size
