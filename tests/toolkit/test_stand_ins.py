# SPDX-License-Identifier: MIT
"""What stands in the box for msgpack and for zlib does what these do."""

import zlib

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.zipapp import inflate
from toolkit.zipapp import msgpack as ours

EDGES = [0, 23, 31, 32, 127, 128, 255, 256, 2**15, 2**16, 2**31, 2**32, 2**63]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([sign * (edge + more) for edge in EDGES for more in (-1, 0) for sign in (1, -1)])
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=20),
    max_leaves=40,
)


@given(values)
def test_packs_as_the_package_does(value: object) -> None:
    packed = msgpack.packb(value)
    assert ours.packb(value) == packed
    assert ours.unpackb(packed) == value


@pytest.mark.parametrize("size", [31, 32, 255, 256, 65535, 65536])
def test_long_ones(size: int) -> None:
    for value in (b"x" * size, "x" * size, "\u20ac" * size, [1] * size):
        assert ours.packb(value) == msgpack.packb(value)
        assert ours.unpackb(msgpack.packb(value)) == value


@given(st.binary(max_size=60) | values.map(msgpack.packb).flatmap(lambda data: st.just(data[:-1])))
@example(b"")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xa1\xff")
def test_refuses_what_the_package_refuses(data: bytes) -> None:
    try:
        value = ours.unpackb(data)
    except ValueError:
        return  # it may refuse more: floats, maps, extensions
    assert msgpack.packb(value) == msgpack.packb(msgpack.unpackb(data, strict_map_key=False))


@pytest.mark.parametrize("value", [1.5, {}, object()])
def test_other_types_are_not_packed(value: object) -> None:
    with pytest.raises(TypeError):
        ours.packb(value)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_longer_integers_are_not_packed(value: int) -> None:
    with pytest.raises(OverflowError):
        ours.packb(value)


STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)


@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([b"a" * 600, b"abc" * 99, bytes(range(256))])).map(
        b"".join
    ),
    st.sampled_from([0, 1, 9]),
    st.sampled_from(STRATEGIES),
)
def test_inflates_as_zlib_does(data: bytes, level: int, strategy: int) -> None:
    deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=strategy)
    packed = deflate.compress(data) + deflate.flush()
    assert inflate.decompress(packed + b"more", -15) == data


def test_inflates_many_blocks() -> None:
    data = b"".join(b"%d %d\n" % (number, number * number) for number in range(40000))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflate.compress(data) + deflate.flush(zlib.Z_FULL_FLUSH) + deflate.compress(data)
    assert inflate.decompress(packed + deflate.flush(), -15) == data + data
