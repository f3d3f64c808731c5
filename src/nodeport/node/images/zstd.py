"""Reads what is packed with zstd, by the machine's own ``libzstd``, which comes with every package manager of today.

Its window is bounded by the library (128 MiB), its memory with it.
"""

from __future__ import annotations

import ctypes
from functools import cache
from io import BufferedIOBase
from typing import Any

LIBRARY = "libzstd.so.1"
_PIECE = 1 << 17


class ZstdError(Exception):
    """The stream is broken, or cannot be read here; one sentence."""


class _Buffer(ctypes.Structure):
    _fields_ = (("place", ctypes.c_void_p), ("size", ctypes.c_size_t), ("done", ctypes.c_size_t))


@cache
def _library() -> ctypes.CDLL:
    try:
        found = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise ZstdError(f"it is packed with zstd, and this machine has no {LIBRARY} to read it") from error
    found.ZSTD_createDStream.restype = ctypes.c_void_p
    found.ZSTD_freeDStream.argtypes = (ctypes.c_void_p,)
    found.ZSTD_decompressStream.argtypes = (
        ctypes.c_void_p, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer),
    )  # fmt: skip
    found.ZSTD_decompressStream.restype = ctypes.c_size_t
    found.ZSTD_isError.argtypes = found.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
    found.ZSTD_getErrorName.restype = ctypes.c_char_p
    return found


class ZstdReader(BufferedIOBase):
    """What is inside, frame after frame, to the end of ``source``. ``read`` raises ZstdError."""

    def __init__(self, source: Any) -> None:
        self._source, self._library = source, _library()
        self._stream = self._library.ZSTD_createDStream()
        if not self._stream:
            raise MemoryError("no memory for a zstd stream")
        self._space = ctypes.create_string_buffer(_PIECE)
        self._packed, self._bare = b"", bytearray()
        self._at, self._ended, self._whole = 0, False, True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if self._stream:
            self._library.ZSTD_freeDStream(self._stream)
            self._stream = None
        super().close()

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes; fewer only at the end."""
        wanted = -1 if size is None else size
        while not self._ended and (wanted < 0 or len(self._bare) < wanted):
            self._fill()
        cut = len(self._bare) if wanted < 0 else wanted
        found = bytes(self._bare[:cut])
        del self._bare[:cut]
        return found

    def _fill(self) -> None:
        """Decompress some more."""
        if self._at == len(self._packed):
            self._packed, self._at = self._source.read(_PIECE), 0
            if not self._packed:
                if not self._whole:
                    raise ZstdError("it is no whole zstd stream: it ends too early")
                self._ended = True
                return
        packed = ctypes.create_string_buffer(self._packed, len(self._packed))
        given = _Buffer(ctypes.addressof(packed), len(self._packed), self._at)
        taken = _Buffer(ctypes.addressof(self._space), _PIECE, 0)
        code = self._library.ZSTD_decompressStream(self._stream, ctypes.byref(taken), ctypes.byref(given))
        if self._library.ZSTD_isError(code):
            name = self._library.ZSTD_getErrorName(code).decode()
            raise ZstdError(f"it is no whole zstd stream: {name}")
        self._at, self._whole = given.done, code == 0
        self._bare += self._space.raw[: taken.done]
