# SPDX-License-Identifier: MIT
"""The slips that `bench.slips` plants: the jobs of this repository have none, and most of those planted are found."""

from collections import Counter
from pathlib import Path

import pytest

from bench.slips import Job, measure, misspelt, own_jobs, slips

JOBS = list(own_jobs())


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_no_false_alarm(job: Job) -> None:
    alarms, counts, missed, _, calls = measure(job)
    assert alarms == []
    assert calls
    caught = sum(count for (_, result), count in counts.items() if result in ("error", "warning"))
    assert counts.total() - caught <= 1, missed


def test_what_is_planted(tmp_path: Path) -> None:
    path = tmp_path / "x.sh"
    path.write_text(
        "lava-send ready\nlava-wait 'ready'\n# lava-send done\necho lava-send done\nlava-send x$1\n"
        "lava-wait-all done peer\nlava-sync begun\nlava-sync begun\n"
    )
    text = path.read_text()
    found = Counter((slip.kind, text[slip.begin : slip.end]) for slip in slips({path}))
    assert found == {
        ("sent", "ready"): 1,
        ("missing", "lava-send ready"): 1,
        ("awaited", "ready"): 1,
        ("awaited", "done"): 1,
        ("role", "peer"): 1,
    } | {("missing", "lava-sync begun"): 2}


def test_a_misspelt_word_is_another() -> None:
    assert [misspelt(word) for word in ("ready", "aaaa", "ab1", "go2")] == ["reday", "aaa", "a1b", "g2o"]
