"""Kubeconfig files: read one as kubectl does, put a cluster in and take it out as kind does.

::

    KubeconfigError   what is wrong, in which file, in one sentence
"""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from nodeport.api import yamltext
from nodeport.api.meta import JsonObject
from nodeport.client.config import ClientConfig, with_scheme

__all__ = ["KubeconfigError", "check", "load", "merge", "paths_from", "remove"]

_KINDS = ("clusters", "contexts", "users")
_LOCK_PATIENCE = 5.0


class KubeconfigError(Exception):
    """A file that is missing, malformed, or that asks for what we do not support."""


class _Loader(yaml.CSafeLoader):
    """YAML without dates: a context may be called 2026-01-01."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's way to configure a loader
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def paths_from(environment: Mapping[str, str]) -> list[Path]:
    """The files that ``KUBECONFIG`` lists, else the one in the home directory."""
    listed = [Path(part) for part in environment.get("KUBECONFIG", "").split(os.pathsep) if part]
    return listed or [Path(environment.get("HOME") or "/root") / ".kube" / "config"]


def load(path: Path | Sequence[Path] | None, context: str | None = None) -> ClientConfig:
    """Where ``context`` (else the current one) points.

    Of several files the first that has an entry wins, and files that do not exist count as empty. ``path``
    None is the home directory's.
    """
    files = paths_from(os.environ | {"KUBECONFIG": ""}) if path is None else path
    paths = [files] if isinstance(files, Path) else list(files)
    found = [(file, _read(file)) for file in paths if file.exists()]
    if not found:
        raise KubeconfigError(f"no kubeconfig at {', '.join(map(str, paths))}")
    current = context or next((str(c["current-context"]) for _, c in found if c.get("current-context")), "")
    if not current:
        raise KubeconfigError(f"{paths[0]} names no current-context")
    _, chosen = _entry(found, "contexts", current)
    base, cluster = _entry(found, "clusters", str(chosen.get("cluster") or ""))
    user_base, user = _entry(found, "users", str(chosen["user"])) if chosen.get("user") else (base, {})
    return _config(cluster, base.parent, user, user_base.parent, str(chosen.get("namespace") or ""))


def merge(
    path: Path,
    *,
    name: str,
    server: str,
    ca: bytes,
    cert: bytes | None = None,
    key: bytes | None = None,
    token: str = "",
    proxy: str = "",
) -> None:
    """Put cluster, user and context ``name`` into the file and make it current; all other entries stay.

    The file is replaced in one step, keeps its owner, and is readable by that owner only. PEM in, base64
    stored.
    """
    user: JsonObject = {}
    if cert is not None and key is not None:
        user = {"client-certificate-data": _base64(cert), "client-key-data": _base64(key)}
    if token:
        user["token"] = token
    cluster = {"certificate-authority-data": _base64(ca), "server": server}
    if proxy:
        cluster["proxy-url"] = proxy
    with _changed(path) as config:
        _put(config, "clusters", name, "cluster", cluster)
        _put(config, "contexts", name, "context", {"cluster": name, "user": name})
        _put(config, "users", name, "user", user)
        config["current-context"] = name


def check(path: Path) -> None:
    """Raises OSError or KubeconfigError when `merge` into this file would fail."""
    target = path.resolve()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=target.parent):
        if target.exists():
            _read(target)


def remove(path: Path, name: str) -> None:
    """Take cluster, user and context ``name`` out again; a file with nothing left in it goes too."""
    if not path.exists():
        return
    with _changed(path) as config:
        for kind in _KINDS:
            config[kind] = [entry for entry in config.get(kind) or [] if entry.get("name") != name]
        if config.get("current-context") == name:
            config["current-context"] = ""


# --- reading


def _read(path: Path) -> JsonObject:
    try:
        content = yaml.load(path.read_bytes(), Loader=_Loader)  # a safe loader, see above
    except (OSError, yaml.YAMLError) as error:
        raise KubeconfigError(f"cannot read {path}: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise KubeconfigError(f"{path} is no kubeconfig")
    return content


def _entry(found: Sequence[tuple[Path, JsonObject]], kind: str, name: str) -> tuple[Path, JsonObject]:
    for path, config in found:
        for entry in config.get(kind) or []:
            if isinstance(entry, dict) and str(entry.get("name")) == name:
                return path, entry.get(kind[:-1]) or {}
    raise KubeconfigError(f"{found[0][0]} has no {kind[:-1]} named {name!r}")


def _config(
    cluster: JsonObject, base: Path, user: JsonObject, user_base: Path, namespace: str
) -> ClientConfig:
    for unsupported in ("exec", "auth-provider", "username"):
        if user.get(unsupported):
            raise KubeconfigError(f"user credentials by {unsupported!r} are not supported")
    token = str(user.get("token") or "")
    if user.get("tokenFile"):
        token = (user_base / str(user["tokenFile"])).read_text().strip()
    server = str(cluster.get("server") or "").rstrip("/")
    if not server:
        raise KubeconfigError("the cluster has no server")
    authority = _pem(cluster, "certificate-authority", base)
    certificate = _pem(user, "client-certificate", user_base)
    verify = not cluster.get("insecure-skip-tls-verify")
    try:
        url = with_scheme(server, secured=bool(authority or certificate) or not verify)
    except ValueError as error:
        raise KubeconfigError(str(error)) from error
    return ClientConfig(
        server=url,
        ca=authority,
        client_cert=certificate,
        client_key=_pem(user, "client-key", user_base),
        token=token,
        namespace=namespace,
        verify=verify,
        server_name=str(cluster.get("tls-server-name") or ""),
        proxy=_proxy(str(cluster.get("proxy-url") or "")),
    )


def _proxy(url: str) -> str:
    """``url`` if we can go through that. kubectl knows more kinds of proxies; nothing is sent past one we do not."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError as error:
        raise KubeconfigError(f"invalid 'proxy-url': could not parse: {error}") from error
    shown = f"{scheme}://{parts.netloc.rpartition('@')[2]}"  # whoever is let in by a password keeps it
    if scheme not in ("http", "https", "socks5"):
        raise KubeconfigError(
            f"invalid 'proxy-url' {shown!r}: unsupported scheme {scheme!r}, must be http, https, or socks5"
        )
    if scheme != "http":
        raise KubeconfigError(
            f"'proxy-url' {shown!r}: proxies of scheme {scheme!r} are not supported, only of 'http'"
        )
    if not host:
        raise KubeconfigError(f"invalid 'proxy-url' {shown!r}: it names no host")
    return url


def _pem(entry: Mapping[str, Any], field: str, base: Path) -> bytes | None:
    """Inline data wins over a file; a relative file is relative to the kubeconfig that names it."""
    try:
        if entry.get(f"{field}-data"):
            return base64.b64decode(entry[f"{field}-data"], validate=False)
        return (base / str(entry[field])).read_bytes() if entry.get(field) else None
    except (OSError, binascii.Error, ValueError) as error:
        raise KubeconfigError(f"cannot read {field}: {error}") from error


# --- writing


def _base64(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


def _put(config: JsonObject, kind: str, name: str, field: str, value: JsonObject) -> None:
    entries = config.get(kind) or []
    entry = {"name": name, field: value}
    at = next((i for i, other in enumerate(entries) if other.get("name") == name), len(entries))
    config[kind] = [*entries[:at], entry, *entries[at + 1 :]]


@contextmanager
def _changed(path: Path) -> Iterator[JsonObject]:
    """The file's content to change in place, written back whole; kubectl's own lock file keeps others out."""
    target = path.resolve()
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(target):
        config = _read(target) if target.exists() else {}
        yield config
        if target.exists() and not any(config.get(kind) for kind in _KINDS):
            target.unlink()
            return
        _replace(target, {"apiVersion": "v1", "kind": "Config", "preferences": {}, **config})


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    lock = target.with_name(f"{target.name}.lock")
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            break
        except FileExistsError as error:
            if time.monotonic() > deadline:
                raise KubeconfigError(f"{target} is locked; remove {lock} if nobody writes it") from error
            time.sleep(0.05)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _replace(target: Path, config: JsonObject) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "w") as file:  # noqa: PTH123  # a descriptor, not a path
            file.write(yamltext.dump(config, sort_keys=False))
            file.flush()
            os.fsync(file.fileno())
        owner = target.stat() if target.exists() else target.parent.stat()
        os.chown(temporary, owner.st_uid, owner.st_gid)
        Path(temporary).replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
