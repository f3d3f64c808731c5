"""A fixed number of bits: which of a range of numbers are taken."""

from __future__ import annotations


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
                index = (index | 7) + 1
            elif byte & 1 << (index & 7):
                index += 1
            else:
                return index
        return None

    def _check(self, index: int) -> None:
        if not 0 <= index < self._size:
            raise IndexError(f"bit {index} of a bitmap of {self._size}")
