"""Unpacked layers on disk, each once, whoever wants them.

::

    FOLDER/layers/NAME/     one layer's content; NAME is cut from the digest of its bare tar, so that the names of 127
                            layers fit into the page that mount(2) takes
    FOLDER/scratch/TOKEN/   work of one intake, locked by it; what is not locked was left by a kill and is swept away
    FOLDER/lock             held for moments, by whoever makes an intake, or decides what is no longer wanted

A layer is there, whole and on disk, or it is not: it is unpacked in scratch and then renamed.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from nodeport.node.images.unpack import BadLayer, Peekable, unpack

NAME_BYTES = 18
_OVERLAY_FOLDER = re.compile(r"[=:/]([A-Za-z0-9_-]{24})(?=[:,])")


def layer_name(diff_id: str) -> str:
    """``sha256:…`` as the 24 letters of a folder's name: 144 bits of it."""
    digest = bytes.fromhex(diff_id.removeprefix("sha256:"))
    return base64.urlsafe_b64encode(digest[:NAME_BYTES]).decode()


class Layers:
    """Safe for several processes at a time. All calls block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._layers, self._scratch = folder / "layers", folder / "scratch"

    def path(self, diff_id: str) -> Path:
        return self._layers / layer_name(diff_id)

    def has(self, diff_id: str) -> bool:
        return self.path(diff_id).is_dir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time, for moments."""
        for each in (self._folder, self._layers, self._scratch):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def intake(self, diff_ids: Iterable[str] = ()) -> Iterator[Intake]:
        """What of these is here stays here, and so does what is added, until the end; scratch goes then."""
        with contextlib.ExitStack() as stack:
            with self.locked():
                self._sweep()
                place = self._scratch / secrets.token_hex(8)
                place.mkdir(mode=0o700)
                lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, lock)
                stack.callback(shutil.rmtree, place, ignore_errors=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
                found = Intake(self, place)
                found.want(layer_name(each) for each in diff_ids)
            yield found

    def collect(self, wanted: Iterable[str]) -> int:
        """Remove all layers but these (diff IDs), those of an intake and those that containers stand on.

        Called with the lock. Returns how many stay only for their containers. Layers are taken out of the way before
        the look at who uses them, so that nobody mounts one in between.
        """
        self._sweep()
        keep = {layer_name(each) for each in wanted} | self._wanted_by_intakes()
        spare = {each.name for each in self._layers.iterdir()} - keep
        if not spare:
            return 0
        used = spare & mounted()
        with self._bin() as place:
            for name in spare - used:
                (self._layers / name).rename(place / name)
            late = (spare - used) & mounted()
            for name in late:
                (place / name).rename(self._layers / name)
        return len(used | late)

    @contextlib.contextmanager
    def _bin(self) -> Iterator[Path]:
        place = self._scratch / secrets.token_hex(8)
        place.mkdir(mode=0o700)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _wanted_by_intakes(self) -> set[str]:
        found: set[str] = set()
        for place in self._scratch.iterdir():
            with contextlib.suppress(OSError, ValueError):
                found.update(json.loads((place / "wanted").read_text()))
        return found

    def _sweep(self) -> None:
        """Throw away what killed intakes left. Called with the lock."""
        for place in self._scratch.iterdir():
            try:
                descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # its intake has ended just now
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)


class Intake:
    """Layers on their way in. ``place``: a folder for whatever is needed meanwhile."""

    def __init__(self, layers: Layers, place: Path) -> None:
        self._layers, self.place = layers, place
        self._wanted: set[str] = set()

    def want(self, names: Iterable[str]) -> None:
        """These layers must not be collected. Called with the lock."""
        self._wanted.update(names)
        (self.place / "wanted").write_text(json.dumps(sorted(self._wanted)))

    def add(self, source: Peekable, diff_id: str = "") -> str:
        """Unpack a layer, which must have that digest; returns it. Raises BadLayer, OSError: nothing is there then."""
        unpacked = self.place / secrets.token_hex(8)
        unpacked.mkdir(mode=0o755)
        unpacked.chmod(0o755)
        try:
            found = unpack(source, unpacked)
            if diff_id and found != diff_id:
                raise BadLayer(f"its content has the digest {found}, not {diff_id}")
            _flush(unpacked)
            with self._layers.locked():
                self.want([layer_name(found)])
                if not self._layers.has(found):
                    unpacked.rename(self._layers.path(found))
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        return found


def mounted() -> set[str]:
    """What names of layers stand in any overlay that is mounted for any process of this machine."""
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):
            for line in process.read_text(errors="replace").splitlines():
                if " - overlay " in line:
                    found.update(_OVERLAY_FOLDER.findall(line))
    return found


def _flush(folder: Path) -> None:
    """To the disk, with all that is in it: the rename that follows must not be there first."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)
