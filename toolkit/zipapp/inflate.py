# SPDX-License-Identifier: MIT
"""What zlib does, for Pythons that lack it: raw DEFLATE data (RFC 1951), as zip archives hold it.

Some hundred times slower than zlib. Only for data that is known to be whole: little is checked.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

    Codes = Tuple[List[int], int]

# The order in which a block gives the lengths of the codes in which it gives the lengths of its codes.
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
_LENGTH_BITS = [0] * 8 + [bits for bits in range(1, 6) for _ in range(4)]
_DISTANCE_BITS = [0] * 4 + [bits for bits in range(1, 14) for _ in range(2)]


def _bases(first: int, bits: "list[int]") -> "list[int]":
    """The smallest value of each code, where further bits tell how much is to be added."""
    found = [first]
    for count in bits[:-1]:
        found.append(found[-1] + (1 << count))
    return found


_LENGTHS = _bases(3, _LENGTH_BITS)
_DISTANCES = _bases(1, _DISTANCE_BITS)
# The longest match has a code of its own, and no further bits.
_LENGTHS[28:], _LENGTH_BITS[28:] = [258], [0]


def _codes(lengths: "list[int]") -> "Codes":
    """A table of Huffman codes: for all that the next bits can be, `symbol << 4 | length`; and a mask for them."""
    longest = max(lengths) or 1
    table = [0] * (1 << longest)
    code = 0
    for length in range(1, longest + 1):
        for symbol, its_length in enumerate(lengths):
            if its_length == length:
                # The first bit of a code is the lowest one here.
                first = int(bin(code + (1 << length))[:2:-1], 2)
                table[first :: 1 << length] = [symbol << 4 | length] * (1 << longest - length)
                code += 1
        code <<= 1
    return table, (1 << longest) - 1


def decompress(data: "bytes | memoryview", bits: int) -> bytes:
    """The content of `data`, as zlib's function of that name gives it where `bits` is -15. Something else may follow."""
    out = bytearray()
    stream = _Stream(data)
    last = 0
    while not last:
        last, kind = stream.take(1), stream.take(2)
        if kind == 0:
            out += stream.stored()
        elif kind == 1:
            lengths = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8
            stream.matches(out, _codes(lengths), _codes([5] * 30))
        else:
            stream.matches(out, *stream.read_codes())
    return bytes(out)


class _Stream:
    """Bits, from the lowest one of the first byte on. Some are read ahead."""

    def __init__(self, data: "bytes | memoryview") -> None:
        self._data = data
        self._at = 0
        self._bits = 0
        self._count = 0  # of bits in `_bits`

    def peek(self, mask: int) -> int:
        """The next bits, as many as `mask` has: at most 48."""
        if self._count < 48:
            self._bits |= int.from_bytes(self._data[self._at : self._at + 6], "little") << self._count
            self._at += 6
            self._count += 48
        return self._bits & mask

    def take(self, count: int) -> int:
        """The next bits, as a number."""
        value = self.peek((1 << count) - 1)
        self._bits >>= count
        self._count -= count
        return value

    def stored(self) -> "bytes | memoryview":
        """A block that is not compressed: its length, twice, and then its bytes."""
        # It begins with the next whole byte.
        start = self._at - self._count // 8 + 4
        size = int.from_bytes(self._data[start - 4 : start - 2], "little")
        self._bits = self._count = 0
        self._at = start + size
        return self._data[start : self._at]

    def read_codes(self) -> "Tuple[Codes, Codes]":
        """The codes of the block that follows: of literals and lengths, and of distances."""
        literals, distances, given = self.take(5) + 257, self.take(5) + 1, self.take(4) + 4
        lengths = [0] * 19
        for symbol in _ORDER[:given]:
            lengths[symbol] = self.take(3)
        table, mask = _codes(lengths)
        found = []  # type: list[int]
        while len(found) < literals + distances:
            entry = table[self.peek(mask)]
            self.take(entry & 15)
            symbol = entry >> 4
            if symbol < 16:
                found.append(symbol)
            elif symbol == 16:
                found += found[-1:] * (3 + self.take(2))
            else:
                found += [0] * (3 + self.take(3) if symbol == 17 else 11 + self.take(7))
        return _codes(found[:literals]), _codes(found[literals:])

    def matches(self, out: bytearray, literals: "Codes", distances: "Codes") -> None:
        """Read a block: bytes, and repetitions of what is in `out` already."""
        data, at, bits, count = self._data, self._at, self._bits, self._count
        table, mask = literals
        distance_table, distance_mask = distances
        append = out.append
        while True:
            if count < 48:  # which is the most that one turn takes
                bits |= int.from_bytes(data[at : at + 6], "little") << count
                at += 6
                count += 48
            entry = table[bits & mask]
            bits >>= entry & 15
            count -= entry & 15
            symbol = entry >> 4
            if symbol < 256:
                append(symbol)
                continue
            if symbol == 256:
                break
            extra = _LENGTH_BITS[symbol - 257]
            length = _LENGTHS[symbol - 257] + (bits & (1 << extra) - 1)
            bits >>= extra
            count -= extra
            entry = distance_table[bits & distance_mask]
            bits >>= entry & 15
            count -= entry & 15
            extra = _DISTANCE_BITS[entry >> 4]
            start = len(out) - _DISTANCES[entry >> 4] - (bits & (1 << extra) - 1)
            bits >>= extra
            count -= extra
            while length > 0:
                # It may reach into what it makes.
                piece = out[start : start + length]
                out += piece
                length -= len(piece)
        self._at, self._bits, self._count = at, bits, count
