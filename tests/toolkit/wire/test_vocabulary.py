# SPDX-License-Identifier: MIT
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from toolkit.wire.vocabulary import (
    IDENTITY_SIZE,
    MAX_DATA,
    MAX_REPLY,
    MAX_REQUEST,
    OK,
    CommandError,
    ProtocolError,
    UsageError,
    pack_reply,
    pack_request,
    unpack,
    unpack_reply,
    unpack_request,
)
from toolkit.zipapp import msgpack as box_msgpack

IDENTITY = bytes(range(IDENTITY_SIZE))

# What msgpack can say.
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**34), st.integers(0, 10**9 - 1)),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
arguments = st.lists(
    st.recursive(
        st.none() | st.integers(0, 2**40) | st.text(max_size=20) | st.binary(max_size=40),
        lambda inner: st.lists(inner, max_size=5),
    ),
    max_size=6,
)

# The host has the package, a device the box's own module.
unpackers = {"package": msgpack.unpackb, "box": box_msgpack.unpackb}


@pytest.fixture(params=unpackers)
def unpacker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(msgpack, "unpackb", unpackers[request.param])
    yield request.param


both = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@both
@given(st.binary(min_size=IDENTITY_SIZE, max_size=IDENTITY_SIZE), st.text(max_size=10), arguments)
def test_requests_round_trip(unpacker: str, identity: bytes, operation: str, arguments: list[Any]) -> None:
    assert unpack_request(pack_request(identity, operation, *arguments)) == (identity, operation, arguments)


@both
@given(st.integers(1, 255), st.text(), arguments)
def test_replies_round_trip(unpacker: str, status: int, sentence: str, values: list[Any]) -> None:
    assert unpack_reply(pack_reply(OK, *values)) == (OK, values)
    assert unpack_reply(pack_reply(status, sentence)) == (status, [sentence])


REQUESTS_REFUSED = {
    "nothing": [],
    "no operation": [IDENTITY],
    "identity too short": [IDENTITY[1:], "self"],
    "identity too long": [IDENTITY + b"x", "self"],
    "identity is text": ["12345678", "self"],
    "identity is a number": [12345678, "self"],
    "operation is bytes": [IDENTITY, b"self"],
    "operation is nothing": [IDENTITY, None],
    "operation is a list": [IDENTITY, ["self"]],
    "no array": {"self": IDENTITY},
    "a number": 5,
}


@pytest.mark.parametrize("name", REQUESTS_REFUSED)
def test_requests_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        unpack_request(msgpack.packb(REQUESTS_REFUSED[name]))


REPLIES_REFUSED = {
    "nothing": [],
    "status is true": [True],
    "status is false": [False],
    "status is 0.0": [0.0],
    "status is text": ["0"],
    "a refusal without a sentence": [1],
    "a refusal with two": [1, "no", "no"],
    "a refusal with bytes": [1, b"no"],
    "no array": None,
}


@pytest.mark.parametrize("name", REPLIES_REFUSED)
def test_replies_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        unpack_reply(msgpack.packb(REPLIES_REFUSED[name]))


BAD_MSGPACK = {
    "nothing": b"",
    "half a number": b"\xce\x00",
    "an array with fewer items than it says": b"\x93\x01\x02",
    "an array of 2^32-1 items": b"\xdd\xff\xff\xff\xff",
    "bytes of 4 GiB": b"\x91\xc6\xff\xff\xff\xff",
    "text of 4 GiB": b"\x91\xdb\xff\xff\xff\xff",
    "a map of 2^32-1 items": b"\x91\xdf\xff\xff\xff\xff",
    "an extension of 4 GiB": b"\x91\xc9\xff\xff\xff\xff\x01",
    "nested 500 times": b"\x91" * 500 + b"\x90",
    "nested 200000 times": b"\x91" * 200_000,
    "maps in maps": b"\x81\xa1a" * 5000,
    "a map as key": b"\x91\x81\x81\x01\x02\x03",
    "a list as key": b"\x91\x81\x90\x03",
    "a number as key": b"\x91\x81\x01\x03",
    "the byte that is never used": b"\x91\xc1",
    "text that is no UTF-8": b"\x91\xa2\xff\xfe",
    "text with a surrogate": b"\x91\xa3\xed\xa0\x80",
    "a time stamp of 3 bytes": b"\x91\xc7\x03\xff\x01\x02\x03",
    "two arrays": b"\x90\x90",
}


@pytest.mark.parametrize("name", BAD_MSGPACK)
def test_bad_msgpack(unpacker: str, name: str) -> None:
    with pytest.raises(ProtocolError):
        unpack_request(BAD_MSGPACK[name])
    with pytest.raises(ProtocolError):
        unpack_reply(BAD_MSGPACK[name])


@both
@example(b"\xd7\xff" + b"\xff" * 8)
@given(st.binary(max_size=200) | values.map(msgpack.packb) | st.lists(values).map(msgpack.packb))
def test_whatever_comes_only_protocol_errors_are_raised(unpacker: str, data: bytes) -> None:
    functions: list[Callable[[bytes], object]] = [unpack, unpack_request, unpack_reply]
    for function in functions:
        with contextlib.suppress(ProtocolError):
            function(data)


def test_64_kib_of_data_fit_however_they_are_cut() -> None:
    message_id = b"i" * 1024
    for pair in (b"k", b""), (b"k", b"v"), (b"key", b"v" * 61), (b"k" * 300, b"v" * 724):
        count = MAX_DATA // len(b"".join(pair))
        request = pack_request(IDENTITY, "send", message_id, list(pair) * count)
        assert len(request) <= MAX_REQUEST
        # And a reply has room for what three other devices sent.
        assert len(pack_reply(OK, *[["n" * 64, *list(pair) * count]] * 3)) <= MAX_REPLY


def test_errors_carry_status_and_text() -> None:
    error = CommandError(75, "gone")
    assert (error.status, error.text, str(error)) == (75, "gone", "gone")
    usage = UsageError("no such option")
    assert (usage.status, usage.text) == (2, "no such option")
