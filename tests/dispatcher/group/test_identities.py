# SPDX-License-Identifier: MIT
"""The identities of a group: as a dict has them, in a fraction of its memory and without its pauses."""

import random
import sys

import pytest

from dispatcher.group import identities as module
from dispatcher.group.identities import Identities


def test_it_is_like_a_dict() -> None:
    chance = random.Random(1)
    identities: Identities[int | None] = Identities()
    model: dict[bytes, int | str | None] = {}
    names = ("d0", "d1", "ünï", "")

    def identity(name: str) -> bytes:
        # The same bytes of several devices, and short ones, and those of no device.
        return chance.randrange(4000).to_bytes(8, "big")[chance.choice((0, 0, 0, 7)) :] + name.encode()

    for _ in range(20_000):
        name = chance.choice(names)
        new, device = identity(name), chance.choice((name, name, name, "d1"))
        assert (new in identities) == (new in model)
        assert identities.add(new, device) == (new not in model)
        model.setdefault(new, device)
        if chance.random() < 0.1:
            identities[new] = model[new] = chance.choice((None, 7))
        some = identity(chance.choice(names))
        assert (some in identities, identities.get(some)) == (some in model, model.get(some))
    for known, value in model.items():
        assert known in identities
        assert identities.get(known) == value


def test_many_take_little_memory() -> None:
    chance = random.Random(2)
    identities: Identities[None] = Identities()
    for number in range(50_000):
        identities.add(chance.randbytes(8) + b"d%d" % (number % 10), f"d{number % 10}")
    assert not identities._others
    assert sum(map(sys.getsizeof, identities._strings.values())) < 50_000 * (20 + 60)


def test_what_stands_across_the_borders_of_others_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRINGS", 1)
    identities: Identities[None] = Identities()
    for known in (b"12345678d", b"abcdefghd"):
        identities.add(known, "d")
    (string,) = identities._strings.values()
    for begin in range(len(string)):
        for end in range(begin + 8, len(string) + 1):
            part = bytes(string[begin:end])
            assert (
                (part in identities)
                == (part in (b"12345678d", b"abcdefghd"))
                == (identities.get(part) == "d")
            )
