# SPDX-License-Identifier: MIT
"""The short form of `make test-cluster`: three servers, two dispatchers, four devices, and the leader killed."""

from pathlib import Path

from tests.cluster import Lab3, check_log, leader_killed


def test_the_leader_of_three_servers_is_killed(box: Path, tmp_path: Path) -> None:
    lab = Lab3(tmp_path, box, hosts=2, devices_each=2)
    try:
        lab.rounds(1)
        steps = leader_killed(lab)
        next(steps)
        lab.rounds(1)
        for _ in steps:
            pass
        lab.finish()
        check_log(lab)
    finally:
        lab.close()
