"""A fixed number of bits: which of a range of numbers are taken. A set does where there are too many."""

from __future__ import annotations

_FULL = b"\xff" * 64
_DENSE = 1 << 22
"""Up to this many bits are kept as such: half a megabyte."""


class Bitmap:
    """``size`` bits, all clear at first. An index outside of it raises ``IndexError``."""

    __slots__ = ("_bytes", "_count", "_size")

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"a bitmap cannot have {size} bits")
        self._size = size
        self._count = 0
        self._bytes = bytearray((size + 7) // 8)

    def __len__(self) -> int:
        return self._size

    @property
    def count(self) -> int:
        """How many bits are set."""
        return self._count

    def test(self, index: int) -> bool:
        self._check(index)
        return bool(self._bytes[index >> 3] & 1 << (index & 7))

    def set(self, index: int) -> bool:
        """Set a bit; False when it was set already."""
        if self.test(index):
            return False
        self._bytes[index >> 3] |= 1 << (index & 7)
        self._count += 1
        return True

    def clear(self, index: int) -> bool:
        """Clear a bit; False when it was clear already."""
        if not self.test(index):
            return False
        self._bytes[index >> 3] &= ~(1 << (index & 7))
        self._count -= 1
        return True

    def first_free(self, start: int = 0, stop: int | None = None) -> int | None:
        """The lowest clear bit in ``start`` .. ``stop`` - 1; None when all of them are set."""
        stop = self._size if stop is None else min(stop, self._size)
        index = max(start, 0)
        while index < stop:
            byte = self._bytes[index >> 3]
            if byte == 0xFF:
                index = self._skip_full(index >> 3, stop) << 3
            elif byte & 1 << (index & 7):
                index += 1
            else:
                return index
        return None

    def _skip_full(self, byte: int, stop: int) -> int:
        """The first byte after ``byte``, of which all bits are set, that may have a clear one."""
        byte += 1
        end = (stop + 7) >> 3
        while byte < end and self._bytes.startswith(_FULL, byte):
            byte += len(_FULL)
        return byte

    def _check(self, index: int) -> None:
        if not 0 <= index < self._size:
            raise IndexError(f"bit {index} of a bitmap of {self._size}")


class SparseBitmap:
    """As many bits as you like, of which few are set: what is set is kept in a set."""

    __slots__ = ("_set", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._set: set[int] = set()

    @property
    def count(self) -> int:
        return len(self._set)

    def test(self, index: int) -> bool:
        self._check(index)
        return index in self._set

    def set(self, index: int) -> bool:
        """Set a bit; False when it was set already."""
        if self.test(index):
            return False
        self._set.add(index)
        return True

    def clear(self, index: int) -> bool:
        """Clear a bit; False when it was clear already."""
        if not self.test(index):
            return False
        self._set.discard(index)
        return True

    def first_free(self, start: int = 0, stop: int | None = None) -> int | None:
        """The lowest clear bit in ``start`` .. ``stop`` - 1; None when all of them are set."""
        stop = self._size if stop is None else min(stop, self._size)
        index = max(start, 0)
        while index < stop and index in self._set:
            index += 1
        return index if index < stop else None

    def _check(self, index: int) -> None:
        if not 0 <= index < self._size:
            raise IndexError(f"bit {index} of a bitmap of {self._size}")


Bits = Bitmap | SparseBitmap


def bits(size: int) -> Bits:
    """``size`` clear bits in the form that suits their number."""
    return Bitmap(size) if size <= _DENSE else SparseBitmap(size)
