"""Layers and archives of images, made for tests as others make them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from typing import Any


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.mode = kind, fields.pop("mode", 0o644)
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def layer(*entries: tarfile.TarInfo | tuple[str | tarfile.TarInfo, bytes]) -> bytes:
    """A tar of these entries; (name, content) is a plain file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for each in entries:
            head, content = each if isinstance(each, tuple) else (each, b"")
            member = entry(head) if isinstance(head, str) else head
            member.size = len(content) or member.size
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def config(layers: Sequence[bytes], **wishes: Any) -> bytes:
    """``layers``: bare tars."""
    rootfs = {"type": "layers", "diff_ids": [digest(each) for each in layers]}
    return json.dumps({"os": "linux", "config": wishes, "rootfs": rootfs}).encode()


def described(content: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": "application/octet-stream", "digest": digest(content), "size": len(content), **more}


def manifest(configuration: bytes, blobs: Sequence[bytes]) -> bytes:
    layers = [described(each) for each in blobs]
    return json.dumps({"schemaVersion": 2, "config": described(configuration), "layers": layers}).encode()


def oci_archive(entries: Sequence[dict[str, Any]], blobs: Sequence[bytes]) -> bytes:
    index = json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()
    files = [(f"blobs/sha256/{digest(each)[7:]}", each) for each in blobs]
    return layer(("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", index), *files)


def oci_image(layers: Sequence[bytes], name: str = "", **wishes: Any) -> bytes:
    """An archive of one image, its layers as they are."""
    configuration = config(layers, **wishes)
    document = manifest(configuration, layers)
    notes = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
    return oci_archive([described(document, **notes)], [document, configuration, *layers])
