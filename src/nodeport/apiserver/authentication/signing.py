"""The key that signs ServiceAccount tokens, and the documents by which others verify them.

The libraries are imported when the first token is signed or checked: most starts of a server need neither.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodeport.api.meta import JsonObject

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_UNCHECKED = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}


class SigningKey:
    """``path``: a private key in PEM, elliptic (ES256) or RSA (RS256); None: one that lives as long as this object."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @cached_property
    def _private(self) -> EllipticCurvePrivateKey | RSAPrivateKey:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec, rsa

        if self._path is None:
            return ec.generate_private_key(ec.SECP256R1())
        key = serialization.load_pem_private_key(self._path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError(f"{self._path}: neither an elliptic nor an RSA key")
        return key

    @cached_property
    def algorithm(self) -> str:
        from cryptography.hazmat.primitives.asymmetric import ec

        return "ES256" if isinstance(self._private, ec.EllipticCurvePrivateKey) else "RS256"

    @cached_property
    def key_id(self) -> str:
        """The hash of the public key, so that it needs no other place to be remembered in."""
        from cryptography.hazmat.primitives import serialization

        public = self._private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.urlsafe_b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")

    def sign(self, claims: JsonObject) -> str:
        import jwt

        return jwt.encode(claims, self._private, algorithm=self.algorithm, headers={"kid": self.key_id})

    def verified(self, token: str) -> JsonObject | None:
        """The claims, none of them checked yet; None unless the signature is ours."""
        import jwt

        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._private.public_key(),
                algorithms=[self.algorithm],
                options=_UNCHECKED,  # type: ignore[arg-type]  # a TypedDict there, a mapping of its members here
            )
        except jwt.InvalidTokenError:
            return None
        return claims

    def key_set(self) -> JsonObject:
        """The public key as a JSON Web Key Set."""
        from jwt.algorithms import get_default_algorithms

        algorithm = get_default_algorithms()[self.algorithm]
        public: JsonObject = algorithm.to_jwk(self._private.public_key(), as_dict=True)
        public.pop("key_ops", None)
        return {"keys": [{"use": "sig", "kid": self.key_id, "alg": self.algorithm, **public}]}
