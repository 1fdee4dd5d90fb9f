# SPDX-License-Identifier: MIT
"""What is text, and what is a console at a wrong speed."""

import random

import pytest

from dispatcher.line.legibility import Legibility


def told(data: bytes, size: int) -> int:
    legibility = Legibility()
    return sum(legibility.receive_output(data[start : start + size]) for start in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 100, 10_000])
@pytest.mark.parametrize(
    "text",
    [
        "[    0.000000] Linux version 6.1\r\n" * 100,
        "\x1b[32m  ok  \x1b[0m \x0f\x1b(B\t\b\b" * 100,
        "Übergrößenträger " * 100,
    ],
)
def test_text_is_text(text: str, size: int) -> None:
    assert told(text.encode(), size) == 0


@pytest.mark.parametrize("size", [100, 10_000])
def test_other_writings_are_text(size: int) -> None:
    """In whatever pieces: at most one character of each is cut."""
    assert told("起動しています。準備ができました。\r\n".encode() * 100, size) == 0


@pytest.mark.parametrize("size", [1, 100, 10_000])
@pytest.mark.parametrize("values", [[0], [0xFF, 0xFE, 0x00, 0xE0, 0x41], [0x80, 0x78, 0xF8, 0x1C]])
def test_garbage_is_told_once(values: list[int], size: int) -> None:
    data = bytes(random.Random(1).choices(values, k=5000))
    assert told(data, size) == 1
