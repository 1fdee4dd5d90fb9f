# SPDX-License-Identifier: MIT
"""`lavabox sim --faults`: real commands and agents on real ptys, over lines that are as bad as real ones."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from dispatcher.simulator.faults import KernelLog
from tests.dispatcher.lavabox_process import Lavabox

SEED = 7
DEVICES = ("panda01", "hb01")
# Thirty commands on each, and a line of output between them; what fails is said.
SCRIPT = """\
i=1
while [ $i -le 15 ]; do
    lava-send $1-$i "text=some data, $i" || echo "send $i FAILED"
    echo "$1 is at $i"
    lava-sync it-$i || echo "sync $i FAILED"
    i=$((i+1))
done
"""


class Run:
    """The script on both devices over lines with these faults, and what came of it."""

    def __init__(self, faults: str, folder: Path, box: Path) -> None:
        script = folder / "script.sh"
        script.write_text(SCRIPT)
        devices = [word for name in DEVICES for word in ("--device", f"{name}:tester=sh {script} {name}")]
        options = ("--box", str(box), "--seed", str(SEED), "--log-dir", "logs", "--group-log", "group.log")
        with Lavabox("sim", "--faults", faults, *options, "--stats", *devices, cwd=folder) as process:
            self.status = process.finish()
            self.text = process.text
        self.logs = {name: (folder / "logs" / f"{name}.log").read_bytes() for name in DEVICES}
        self.events = [json.loads(line) for line in (folder / "group.log").read_text().splitlines()]
        head, *rows = (line.split("\t") for line in (folder / "logs/stats.txt").read_text().splitlines())
        self.counts: Counter[str] = Counter()
        for row in rows:
            self.counts.update({name: int(number) for name, number in zip(head[1:], row[1:], strict=True)})

    def check(self) -> None:
        """All has succeeded, once."""
        assert self.status == 0, self.text
        assert "FAILED" not in self.text
        sent = Counter((event["type"], event.get("device")) for event in self.events)
        for name in DEVICES:
            assert sent["sent", name] == 15
            assert sent["waiting", name] == 15
            self.check_kernel_lines(name)

    def check_kernel_lines(self, name: str) -> None:
        """The log has each line of the kernel, whole and in order."""
        kernel = KernelLog(f"{SEED} {name} kernel", False)
        lines = [kernel.next_line(0.0) for _ in range(3000)]
        rest = self.logs[name]
        # (The shortest may be the end of something else.)
        last = max(number for number, line in enumerate(lines) if len(line) > 20 and line in rest)
        assert last > 1
        for line in lines[: last + 1]:
            _, found, rest = rest.partition(line)
            assert found, line


def test_kernel_lines_cut_frames_and_cost_nothing(tmp_path: Path, box: Path) -> None:
    run = Run("printk=50", tmp_path, box)
    run.check()
    assert run.counts["repaired"] > 10
    assert run.counts["damaged"] == run.counts["refused"] == run.counts["replayed"] == 0
    for name, log in run.logs.items():
        assert b"5282;" not in log
        assert b"#L1." not in log
        # Without the kernel's lines it is what the script printed.
        printed = re.sub(rb"\[ *\d+\.\d{6}\] [^\r\n]*\r\n", b"", log)
        assert printed == b"".join(b"%s is at %d\r\n" % (name.encode(), i) for i in range(1, 16))


def test_kernel_lines_without_time_stamps(tmp_path: Path, box: Path) -> None:
    run = Run("printk=50,stamps=0", tmp_path, box)
    assert run.status == 0, run.text
    assert "FAILED" not in run.text
    assert run.counts["repaired"] > 10


@pytest.mark.parametrize("faults", ["printk=50,drop=5e-4", "printk=50,flip=5e-4", "printk=50,double=5e-4"])
def test_lost_flipped_and_doubled_bytes_cost_time_at_most(faults: str, tmp_path: Path, box: Path) -> None:
    Run(faults, tmp_path, box).check()


def test_pauses(tmp_path: Path, box: Path) -> None:
    run = Run("delay=0.3,printk=50", tmp_path, box)
    run.check()
    assert run.counts["damaged"] == 0


@pytest.mark.parametrize(("text", "named"), [("drop=7", "drop=7"), ("dorp=1e-4", "'dorp'"), ("", "''")])
def test_a_wrong_specification_is_a_usage_error(text: str, named: str, tmp_path: Path) -> None:
    with Lavabox("sim", "--faults", text, "--role", "a=true", cwd=tmp_path) as process:
        assert process.finish() == 2
    first = process.text.splitlines()[0]
    assert first.startswith("lavabox sim: --faults") and named in first


def test_a_seed_is_told_if_none_was_given(tmp_path: Path, box: Path) -> None:
    with Lavabox("sim", "--box", str(box), "--faults", "drop=0", "--role", "a=true", cwd=tmp_path) as process:
        assert process.finish() == 0
    assert re.search(r"^lavabox: seed \d+$", process.text, re.MULTILINE)
    assert "faults printk=0,stamps=1,drop=0,flip=0,double=0,delay=0" in process.text


def test_counters_are_shown(tmp_path: Path, box: Path) -> None:
    arguments = ("--stats", "--log-dir", "logs", "--role", "a=lava-self")
    with Lavabox("sim", "--box", str(box), *arguments, cwd=tmp_path) as process:
        assert process.finish() == 0
    names = ["frames", "requests", "lines", "repaired", "damaged", "replayed", "refused", "overflow"]
    head, row = (line.split() for line in process.text.splitlines()[-2:])
    assert head == ["device", *names]
    assert row == ["a-1", "2", "1", "2", "0", "0", "0", "0", "0"]
    written = (tmp_path / "logs/stats.txt").read_text()
    assert written == "\t".join(head) + "\n" + "\t".join(row) + "\n"
