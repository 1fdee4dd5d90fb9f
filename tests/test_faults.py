# SPDX-License-Identifier: MIT
"""The cores under the fault model: cases with names, and whatever mixture hypothesis makes up.

The invariants are asserted inside the model, at every step; see fault_model.py.
"""

import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from fault_model import MIXTURES, Faults, World

CASES = {
    "no faults": Faults(),
    "9600 baud": Faults(baud=9600),
    "kernel messages": Faults(printk=20),
    "kernel messages at 9600 baud": Faults(printk=5, baud=9600),
    "kernel messages without time stamps": Faults(printk=20, stamps=False),
    "lost bytes": Faults(drop=1e-3),
    "flipped bits": Faults(flip=1e-3),
    "doubled bytes": Faults(double=1e-3),
    "pauses": Faults(delay=0.05),
    "echo": Faults(echo=True),
    "echo and kernel messages": Faults(echo=True, printk=10),
    "killed commands": Faults(cancel=0.5),
    "foreground and background": Faults(background=0.5),
    "killed agents": Faults(kill=0.3),
    "reboots": Faults(reboot=0.1),
    "replayed logs": Faults(replay=1.0),
    "restarted dispatchers": Faults(restart=0.1),
    "silent lines": Faults(outage=0.1),
    "devices that leave and come back": Faults(leave=0.1, cancel=0.2, log_delay=0.2),
    "declared members that come late": Faults(members=True, leave=0.05),
    "a slow log": Faults(log_delay=0.2),
    "a very slow log": Faults(log_delay=3.0),
    "appends that fail": Faults(log_failure=0.2),
    "events that come twice": Faults(log_double=0.3),
    "a bad log and restarted dispatchers": Faults(
        log_delay=1.0, log_failure=0.1, log_double=0.1, restart=0.2
    ),
    "a bad log and killed commands": Faults(log_delay=1.0, log_failure=0.1, cancel=0.5, kill=0.1),
    "everything": Faults(
        printk=10,
        drop=3e-4,
        flip=3e-4,
        double=3e-4,
        delay=0.01,
        echo=True,
        cancel=0.2,
        kill=0.1,
        reboot=0.05,
        replay=0.2,
        background=0.1,
        restart=0.05,
        outage=0.03,
        leave=0.02,
        members=True,
        log_delay=0.3,
        log_failure=0.03,
        log_double=0.03,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    counts = World(seed=1, faults=CASES[name]).run(seconds=30)
    assert counts["status 0"] > 50


def test_no_needless_repeats():
    """A saturated slow line makes answers late, not lost."""
    assert World(seed=1, faults=Faults()).run(seconds=60)["repeats"] == 0
    counts = World(seed=1, faults=Faults(baud=9600)).run(seconds=60, commands=0.3)
    assert counts["repeats"] == 0


def test_cut_frames_are_repaired_without_a_repeat():
    counts = World(seed=1, faults=Faults(printk=20)).run(seconds=30)
    assert counts["frames cut"] > 50
    assert counts["repeats"] <= counts["frames cut"] / 50  # those cut in their marker's first two bytes


def test_mixtures_are_of_all_faults():
    assert set(MIXTURES) == {field.name for field in fields(Faults)}


# The same mixtures each time: new ones are for the soak.
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    faults=st.builds(Faults, **{name: st.sampled_from(values) for name, values in MIXTURES.items()}),
)
def test_any_mixture(seed, faults):
    World(seed, faults).run(seconds=6)
