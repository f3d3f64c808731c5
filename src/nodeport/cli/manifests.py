"""Manifests from files, folders and standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodeport.api.meta import JsonObject
from nodeport.api.resources import Resource
from nodeport.cli.errors import UserError
from nodeport.cli.selection import resource_of
from nodeport.cli.session import Session

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file. ``namespace`` is where it goes: its own, else the session's; empty if cluster-scoped."""

    obj: JsonObject
    resource: Resource
    name: str
    namespace: str
    source: str

    @property
    def collection(self) -> str:
        return self.resource.path(self.namespace)

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.name)


def read_manifests(names: Sequence[str], session: Session, *, namespace_given: bool) -> list[Manifest]:
    """Every object of the named files, folders and ``-`` in their order, Lists taken apart."""
    found = [
        _manifest(obj, source, session, namespace_given)
        for name in names
        for source, text in _texts(name)
        for obj in objects_of(text, source)
    ]
    if not found:
        raise UserError("no objects passed to apply")
    return found


def _texts(name: str) -> Iterator[tuple[str, str]]:
    if name == "-":
        yield "STDIN", sys.stdin.read()
        return
    path = Path(name)
    if path.is_dir():
        paths = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if not paths:
            raise UserError(f"{name} holds no file that ends in {', '.join(SUFFIXES)}")
    else:
        paths = [path]
    for file in paths:
        try:
            yield str(file), file.read_text()
        except FileNotFoundError as error:
            raise UserError(f'the path "{name}" does not exist') from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {file}: {error}") from error


def objects_of(text: str, source: str) -> Iterator[JsonObject]:
    """The objects of a YAML or JSON text; empty documents are skipped."""
    from nodeport.api.yamltext import YamlError, load_all

    try:
        documents = [json.loads(text)] if text.lstrip().startswith("{") else []
    except ValueError:
        documents = []  # several documents of JSON, or YAML's own braces
    try:
        documents = documents or [document for document, _ in load_all(text)]
    except (YamlError, ValueError) as error:
        raise UserError(f"error parsing {source}: {error}") from error
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise UserError(f"error parsing {source}: an object is wanted, not a {type(document).__name__}")
        yield from _taken_apart(document)


def _taken_apart(obj: JsonObject) -> Iterator[JsonObject]:
    if str(obj.get("kind") or "").endswith("List") and isinstance(obj.get("items"), list):
        for item in obj["items"]:
            yield from _taken_apart(item)
    else:
        yield obj


def _manifest(obj: JsonObject, source: str, session: Session, namespace_given: bool) -> Manifest:
    resource = resource_of(obj, source)
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise UserError(f"{source}: a {resource.kind} without metadata.name; every object needs one")
    own = str(metadata.get("namespace") or "")
    if not resource.namespaced:
        return Manifest(obj, resource, str(metadata["name"]), "", source)
    if own and namespace_given and own != session.namespace:
        raise UserError(
            f'the namespace from the provided object "{own}" does not match the namespace "{session.namespace}". '
            f"You must pass '--namespace={own}' to perform this operation."
        )
    namespace = own or session.namespace
    obj = {**obj, "metadata": {**metadata, "namespace": namespace}}
    return Manifest(obj, resource, str(metadata["name"]), namespace, source)
