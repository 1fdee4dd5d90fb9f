# SPDX-License-Identifier: MIT
"""docs/protocol.md says what the code does: its tables, limits and dumps."""

import json
import re
from pathlib import Path

import pytest

from dispatcher.group import operations
from dispatcher.line import demultiplexer, session
from dispatcher.line.repair import MAX_GUESSES
from toolkit.wire import device_link, framing, packets, timing, transfer
from toolkit.wire.vocabulary import (
    MAX_DATA,
    MAX_NAME,
    MAX_REPLY,
    MAX_REQUEST,
    MAX_TEXT,
    pack_reply,
    pack_request,
)

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
VECTORS = json.loads(DOCUMENT.split("```json\n")[1].split("```")[0])


def table(columns, rows, corner):
    """A Markdown table of `{column: {row: cell}}`."""
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for row in rows:
        lines.append(f"| {row} | " + " | ".join((cells.get(row) or "") for cells in columns.values()) + " |")
    return "\n".join(lines)


def rows_of(columns):
    return list(dict.fromkeys(row for cells in columns.values() for row in cells))


def test_table_of_the_device_link():
    columns = device_link.TRANSITIONS
    assert table(columns, rows_of(columns), "event") in DOCUMENT


def test_table_of_the_link():
    columns = device_link.LINK
    assert table(columns, rows_of(columns), "event") in DOCUMENT


def test_table_of_the_session():
    up = {packets.REQUEST: "REQUEST", packets.POLL: "POLL"}
    down = {packets.ACK: "ACK", packets.REPLY: "REPLY"}
    columns = {
        state.value: {up[frame]: down[answer] for frame, answer in answers.items()}
        for state, answers in session.ANSWERS.items()
    }
    assert table(columns, rows_of(columns), "frame") in DOCUMENT


@pytest.mark.parametrize("fields_of", [packets.UP_FIELDS, packets.DOWN_FIELDS], ids=["up", "down"])
def test_fields_of_packets(fields_of):
    up = fields_of is packets.UP_FIELDS
    for name in ("HELLO", "REQUEST", "POLL", "CANCEL") if up else ("WELCOME", "ACK", "REPLY", "FENCE"):
        kind = getattr(packets, name)
        assert f"| {name} | {kind} | {' '.join(fields_of[kind])} |" in DOCUMENT


def test_operations():
    named = re.findall(r"^\| `([a-z-]+)` \|", DOCUMENT, re.MULTILINE)
    assert sorted(named) == sorted(operations.OPERATIONS)


@pytest.mark.parametrize(
    "sentence",
    [
        f"at most {framing.MAX_FRAME} bytes, in one",
        f"a line of at most {framing.MAX_LINE} bytes",
        f"at most {framing.MAX_FRAME_BODY} bytes upwards and {framing.MAX_LINE_BODY} downwards",
        f"| {device_link.MAX_WINDOW} upwards, {packets.REPLY_WINDOW} downwards; {device_link.FIRST_WINDOW} at first",
        f"while {device_link.MAX_UNANSWERED} bytes are unanswered",
        f"| {device_link.MAX_CHUNK} bytes upwards ({device_link.SLOW_CHUNK} at first up to "
        f"{timing.SLOW_BAUD} baud), {session.MAX_CHUNK} downwards; halved by each loss, down to {transfer.MIN_CHUNK} |",
        f"| after {timing.FIRST_RTO} s and the time",
        f"at least {timing.MIN_RTO} s, doubled each time up to {timing.MAX_RTO:g} s |",
        f"| {packets.POLL_INTERVAL:g} s, {packets.LEASE:g} s |",
        f"a lease of {packets.LEASE} s. That is the time between two polls",
        f"| {packets.UNATTENDED_POLL_INTERVAL:g} s, 0 s |",
        f"| {packets.LINK_TIMEOUT:g} s of silence |",
        f"| {session.ABANDONED:g} s without a poll; {session.RESUMED:g} s after the host was stopped |",
        f"| keys and values of a message | {MAX_DATA // 1024} KiB |",
        f"| request, reply | {MAX_REQUEST // 1024} KiB, {MAX_REPLY // 1024 // 1024} MiB |",
        f"| message id | {operations.MAX_ID} bytes |",
        f"| id of a test case, name, uuid, units, measurement | {MAX_NAME // 1024} KiB |",
        f"| message of a raise or event, URL | {MAX_TEXT // 1024} KiB |",
        f"| {session.MAX_LINKS}, {session.MAX_REQUESTS} |",
        f"| {demultiplexer.MAX_HELD} bytes, {demultiplexer.HOLD_TIME:g} s; only the beginning of a marker, or of a part of an echo, "
        f"{demultiplexer.MARKER_TIME} s |",
        f"It makes {MAX_GUESSES} guesses at most",
        f"after {device_link.HELLO_TIMEOUT:g} s and the time that {device_link.HIDDEN_QUEUE // 1024} KiB take",
    ],
)
def test_limits(sentence):
    assert sentence in " ".join(DOCUMENT.split())


def test_message_and_seal():
    message = pack_request(bytes(range(8)), "send", b"ready", [b"ip", b"10.0.0.1"])
    assert message.hex() == VECTORS["message"]
    assert transfer.seal(message).hex() == VECTORS["sealed"]


@pytest.mark.parametrize("name", ["hello", "request"])
def test_frames(name):
    vector = VECTORS[name]
    more = [bytes.fromhex(VECTORS["sealed"])] if name == "request" else []
    body = packets.pack_packet(getattr(packets, name.upper()), *vector["fields"].values(), *more)
    assert body.hex() == vector["body"]
    frame = vector["frame"].encode("latin-1")
    assert framing.encode_frame(body) == frame
    assert demultiplexer.Demultiplexer().receive_data(frame, 0.0) == [demultiplexer.Frame(frame, body)]


@pytest.mark.parametrize("name", ["welcome", "reply"])
def test_lines(name):
    vector = VECTORS[name]
    more = [transfer.seal(pack_reply(0))] if name == "reply" else []
    body = packets.pack_packet(getattr(packets, name.upper()), *vector["fields"].values(), *more)
    assert body.hex() == vector["body"]
    line = vector["line"].encode("latin-1")
    assert framing.encode_line(body) == line
    assert framing.decode_line(line[1:-1]) == body
