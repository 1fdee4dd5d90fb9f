# SPDX-License-Identifier: MIT
"""LAVA's own dispatcher drives two hooked devices. A thousand results: see two_devices.py."""

import os

import pytest

from tests.lava.two_devices import count, installed, run


@pytest.mark.skipif(installed() is None or os.geteuid() != 0, reason="needs lava-dispatcher, and root")
@pytest.mark.parametrize("way", ["coordinator", "entry"])
def test_lava_records_everything_of_two_hooked_devices_whose_kernels_are_noisy(tmp_path, way):
    lava = installed()
    assert lava is not None
    for outcome in run(lava, tmp_path, results=10, printk=50, way=way):
        assert outcome.result("job") == "pass", outcome.log
        assert count(outcome, 10) == (10, 0, 0)
        multi = {
            case: found[0]["result"] for case, found in outcome.cases.items() if case.startswith("multinode-")
        }
        assert sorted(multi.values()) == ["pass"] * 3
        assert outcome.result("data") == "pass"
        assert "multinode-sync-end" in multi
