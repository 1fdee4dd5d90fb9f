# SPDX-License-Identifier: MIT
"""Framing: how bytes are marked, armoured and checked on a shared console.

    device to host   ESC ] 5282 ; TEXT CHECK ESC \\          at most 720 bytes
    host to device   ^U # L1 . TEXT . CHECK LF               at most 255 bytes

TEXT is base64url without padding. CHECK is the CRC-32 of the TEXT *characters*,
as six base64url characters; its start value differs by direction, so a frame
that comes back as an echo never passes for one of the other direction.

Upwards the frame is an operating system command with a number no terminal
knows: terminals and multiplexers swallow it, and it has no control character
inside that a tty would translate. Downwards it is typed into a terminal: to a
shell that reads it in place of its command it is a comment, and the ^U takes a
half-typed line away first, so that it never completes one.
"""

import binascii

MARKER = b"\x1b]5282;"
TERMINATOR = b"\x1b\\"
LINE_KILL = b"\x15"
LINE_MARKER = b"#L1."

MAX_FRAME = 720
MAX_LINE = 255
CHECK_SIZE = 6  # characters: 32 bits and four zero ones

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

# Bytes of body that fit.
MAX_FRAME_BODY = (MAX_FRAME - len(MARKER) - CHECK_SIZE - len(TERMINATOR)) * 3 // 4
MAX_LINE_BODY = (MAX_LINE - len(LINE_KILL) - len(LINE_MARKER) - 1 - CHECK_SIZE - 1) * 3 // 4

UP_SEED = binascii.crc32(b"L1>")
DOWN_SEED = binascii.crc32(b"L1<")

_TO_URL = bytes.maketrans(b"+/", b"-_")
# What is in the other alphabet only is in none.
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
# Which character may be the last, by how many there are behind the last group of four, as it has bits to spare.
# One character alone carries nothing.
_LAST = (ALPHABET, b"", b"AQgw", b"AEIMQUYcgkosw048")


def _encode(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL)


def check(text: bytes, seed: int) -> bytes:
    """The six characters that vouch for `text` in the direction of `seed`."""
    return binascii.b2a_base64(binascii.crc32(text, seed).to_bytes(4, "big"))[:CHECK_SIZE].translate(_TO_URL)


def encode_frame(body: bytes) -> bytes:
    """The frame, device to host, of at most MAX_FRAME_BODY bytes."""
    text = _encode(body)
    return MARKER + text + check(text, UP_SEED) + TERMINATOR


def decode_frame(content: bytes, seed: int = UP_SEED) -> "bytes | None":
    """The body of what stood between marker and terminator, or None if it is damaged.

    It is one function without a helper: hosts read thousands of frames.

    :param seed: of the direction.
    """
    text = content[:-CHECK_SIZE]
    seal = binascii.b2a_base64(binascii.crc32(text, seed).to_bytes(4, "big"))[:CHECK_SIZE]
    if content[-CHECK_SIZE:].translate(_FROM_URL) != seal:
        return None
    size = len(text)
    try:
        # Padding that is not needed does no harm.
        body = binascii.a2b_base64(text.translate(_FROM_URL) + b"==")
    except binascii.Error:
        return None
    # What is in no alphabet a2b_base64 passes over. (To look for a number in bytes is fast.)
    if len(body) != size * 3 // 4 or (size % 4 and text[-1] not in _LAST[size % 4]):
        return None
    return body


def encode_line(body: bytes) -> bytes:
    """The line, host to device, of at most MAX_LINE_BODY bytes."""
    text = _encode(body)
    return LINE_KILL + LINE_MARKER + text + b"." + check(text, DOWN_SEED) + b"\n"


def decode_line(line: bytes) -> "bytes | None":
    """The body of an input line, or None if it is not one of ours or damaged.

    Whatever stands before the marker was typed by somebody else: a tty without
    line editing delivers it, and the ^U, together with our line.
    """
    start = line.rfind(LINE_MARKER)
    if start < 0:
        return None
    text, dot, seal = line[start + len(LINE_MARKER) :].rstrip(b"\r\n").partition(b".")
    return decode_frame(text + seal, DOWN_SEED) if dot and len(seal) == CHECK_SIZE else None
