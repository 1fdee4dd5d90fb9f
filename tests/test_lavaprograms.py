# SPDX-License-Identifier: MIT
"""LAVA's side of the figures: LAVA's commands, dispatcher and coordinator answer each other, and are counted."""

import pytest

from bench import lavaprograms

installed = lavaprograms.dispatcher() is not None and lavaprograms.poll_delay() is not None


@pytest.mark.skipif(not installed, reason="needs lava-dispatcher and lava-coordinator")
def test_devices_of_lava_speak_to_each_other(tmp_path):
    commands = {
        "a": "lava-self; lava-send id key=value; lava-sync end",
        "b": f"lava-wait id; cat {tmp_path}/run/bin/cache; lava-sync end",
    }

    outcomes = lavaprograms.run(tmp_path / "run", commands, 0.1)

    assert outcomes is not None
    assert outcomes["a"].log.startswith("a\n")
    assert "\na:key=value\n" in outcomes["b"].log
    assert [outcome.requests for outcome in outcomes.values()] == [2, 2]
    # What was typed to them: of two commands, and of one.
    assert outcomes["b"].down > outcomes["a"].down > 0
    assert all(outcome.up > len(outcome.log) for outcome in outcomes.values())


@pytest.mark.parametrize("missing", ["dispatcher", "coordinator"])
def test_without_lava_there_is_no_figure(tmp_path, monkeypatch, missing):
    found = lavaprograms._path
    monkeypatch.setattr(lavaprograms, "_path", lambda name: None if missing in name else found(name))

    assert lavaprograms.run(tmp_path / "run", {"a": "lava-self"}, 0.1) is None
