# SPDX-License-Identifier: MIT
"""msgpack for the box: of its types those that packets hold.

In the box this module stands in the place of the package of that name, which
the host has. What it packs is, byte for byte, what the package packs. The
package's part in pure Python takes longer to start than all that a command
needs besides.
"""

# What the package raises for data that it cannot read, beside ValueError.
UnpackException = ValueError

# Of the marks of integers of 1, 2, 4 and 8 bytes the first; of byte strings, texts and lists likewise.
_UNSIGNED, _SIGNED, _BYTES, _TEXT, _LIST = 0xCC, 0xD0, 0xC4, 0xD9, 0xDC


def packb(value: object) -> bytes:
    """The bytes of None, a truth value, an integer of 64 bits, bytes, text, or a list of such.

    Raises TypeError for anything else, OverflowError for a longer integer.
    """
    if value is None:
        return b"\xc0"
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _pack_int(value)
    if isinstance(value, bytes):
        return _head(_BYTES, 0, -1, len(value)) + value
    if isinstance(value, str):
        data = value.encode()
        return _head(_TEXT, 0xA0, 31, len(data)) + data
    if isinstance(value, (list, tuple)):
        return _head(_LIST - 1, 0x90, 15, len(value)) + b"".join([packb(item) for item in value])
    raise TypeError("cannot pack %s" % type(value).__name__)


def _pack_int(value: int) -> bytes:
    if -32 <= value < 128:
        return bytes((value & 0xFF,))
    first, low = (_UNSIGNED, 0) if value >= 0 else (_SIGNED, -128)
    for power in range(4):
        size = 1 << power
        if low << 8 * (size - 1) <= value < (low + 256) << 8 * (size - 1):
            return bytes((first + power,)) + (value & (1 << 8 * size) - 1).to_bytes(size, "big")
    raise OverflowError("%d has more than 64 bits" % value)


def _head(first: int, small: int, most: int, size: int) -> bytes:
    """What stands before `size` bytes or items: one byte where that is `most` or less."""
    if size <= most:
        return bytes((small | size,))
    if size < 1 << 8 and first != _LIST - 1:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first + 1,)) + size.to_bytes(2, "big")
    return bytes((first + 2,)) + size.to_bytes(4, "big")


def unpackb(data: bytes) -> object:
    """The value in `data`, which `packb` has made; raises ValueError for anything else."""
    value, end = _unpack(data, 0)
    if end != len(data):
        raise ValueError("%d bytes too many" % (len(data) - end))
    return value


def _unpack(data: bytes, at: int) -> "tuple[object, int]":
    """The value that begins at `at`, and where it ends."""
    (mark,) = _slice(data, at, 1)
    at += 1
    if mark < 0x80:
        return mark, at
    if mark >= 0xE0:
        return mark - 256, at
    if 0x90 <= mark < 0xA0:
        return _unpack_list(data, at, mark & 15)
    if 0xA0 <= mark < 0xC0:
        return _unpack_text(data, at, mark & 31)
    if mark in _CONSTANTS:
        return _CONSTANTS[mark], at
    if _UNSIGNED <= mark < _UNSIGNED + 4 or _SIGNED <= mark < _SIGNED + 4:
        size = 1 << (mark & 3)
        return int.from_bytes(_slice(data, at, size), "big", signed=mark >= _SIGNED), at + size
    size = _SIZES.get(mark, 0)
    if not size:
        raise ValueError("a value of type 0x%02x" % mark)
    length = int.from_bytes(_slice(data, at, size), "big")
    at += size
    if mark >= _LIST:
        return _unpack_list(data, at, length)
    if mark >= _TEXT:
        return _unpack_text(data, at, length)
    return _slice(data, at, length), at + length


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
# How many bytes of length follow a mark.
_SIZES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4}


def _unpack_list(data: bytes, at: int, length: int) -> "tuple[object, int]":
    items = []
    # A length that the data does not have ends this with an error, at the first item that is missing.
    for _ in range(length):
        item, at = _unpack(data, at)
        items.append(item)
    return items, at


def _unpack_text(data: bytes, at: int, length: int) -> "tuple[object, int]":
    return _slice(data, at, length).decode(), at + length


def _slice(data: bytes, at: int, size: int) -> bytes:
    piece = data[at : at + size]
    if len(piece) < size:
        raise ValueError("it ends too early")
    return piece
