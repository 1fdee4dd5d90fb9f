# SPDX-License-Identifier: MIT
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.wire import packets
from toolkit.wire.framing import MAX_FRAME_BODY
from toolkit.wire.vocabulary import ProtocolError

BITS = {"version": 8, "tag": 16, "lease": 7, "push": 1}
WAYS: dict[str, tuple[Callable[[bytes], list[Any]], dict[int, tuple[str, ...]]]] = {
    "up": (packets.unpack_up, packets.UP_FIELDS),
    "down": (packets.unpack_down, packets.DOWN_FIELDS),
}
every_field = [
    pytest.param(way, kind, position, name, id=f"{way} {kind} {name}")
    for way, (_, fields_of) in WAYS.items()
    for kind, names in fields_of.items()
    for position, name in enumerate(names)
]


def largest(name: str) -> int:
    return 2 ** BITS.get(name, 32) - 1


def some_packet(fields_of: dict[int, tuple[str, ...]], kind: int) -> list[Any]:
    return [kind] + [b"chunk" if name == "chunk" else 1 for name in fields_of[kind]]


def packets_of(way: str) -> st.SearchStrategy[list[Any]]:
    def fields(kind: int) -> st.SearchStrategy[list[Any]]:
        return st.tuples(
            *(
                st.binary(max_size=400) if name == "chunk" else st.integers(0, largest(name))
                for name in WAYS[way][1][kind]
            )
        ).map(lambda values: [kind, *values])

    return st.sampled_from(sorted(WAYS[way][1])).flatmap(fields)


@pytest.mark.parametrize("way", WAYS)
@given(data=st.data())
def test_packets_round_trip(way: str, data: st.DataObject) -> None:
    packet = data.draw(packets_of(way))
    assert WAYS[way][0](packets.pack_packet(*packet)) == packet


@pytest.mark.parametrize(("way", "kind", "position", "name"), every_field)
def test_fields_have_one_type_and_a_range(way: str, kind: int, position: int, name: str) -> None:
    unpack, fields_of = WAYS[way]
    good: list[Any] = [b"", bytes(400)] if name == "chunk" else [0, largest(name)]
    bad: list[Any] = [None, True, False, 1.0, float("nan"), "1", [1], {"a": 1}, -1, -(2**63), 2**63]
    bad += [1, 0, "x"] if name == "chunk" else [largest(name) + 1, b"", b"1"]
    for values, accepted in ((good, True), (bad, False)):
        for value in values:
            packet = some_packet(fields_of, kind)
            packet[position + 1] = value
            if accepted:
                assert unpack(msgpack.packb(packet)) == packet
            else:
                with pytest.raises(ProtocolError):
                    unpack(msgpack.packb(packet))


@pytest.mark.parametrize("way", WAYS)
def test_packets_have_a_known_type_and_all_their_fields(way: str) -> None:
    unpack, fields_of = WAYS[way]
    for kind in fields_of:
        packet = some_packet(fields_of, kind)
        for wrong in (packet[:-1], [*packet, 0], [True, *packet[1:]], [float(kind), *packet[1:]], packet[:1]):
            with pytest.raises(ProtocolError):
                unpack(msgpack.packb(wrong))
    for wrong in ([], [4], [-1], [255, 1, 1, 1], [None], ["HELLO"], [b"\0"], [[0]], [{}]):
        with pytest.raises(ProtocolError):
            unpack(msgpack.packb(wrong))


@pytest.mark.parametrize("way", WAYS)
@given(
    body=st.binary(max_size=MAX_FRAME_BODY)
    | st.lists(
        st.integers(-3, 2**33) | st.binary(max_size=9) | st.booleans() | st.floats() | st.none(), max_size=9
    ).map(msgpack.packb)
)
def test_whatever_comes_only_protocol_errors_are_raised(way: str, body: bytes) -> None:
    unpack, fields_of = WAYS[way]
    try:
        packet = unpack(body)
    except ProtocolError:
        return
    names = fields_of[packet[0]]
    for name, value in zip(names, packet[1:], strict=True):
        assert type(value) is (bytes if name == "chunk" else int)


def test_the_overhead_is_that_of_the_longest_numbers() -> None:
    for fields_of, kind in (packets.UP_FIELDS, packets.REQUEST), (packets.DOWN_FIELDS, packets.REPLY):
        packet = [kind] + [bytes(300) if name == "chunk" else largest(name) for name in fields_of[kind]]
        assert len(packets.pack_packet(*packet)) <= packets.OVERHEAD + 300
        assert kind == packets.REPLY or len(packets.pack_packet(*packet)) == packets.OVERHEAD + 300
