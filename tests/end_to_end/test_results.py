# SPDX-License-Identifier: MIT
"""Results, from scripts on real ptys to files, tables and exit statuses."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.dispatcher.lavabox_process import Lavabox

CONFIGURATION = """\
[devices.a-1]
target-ip = "192.168.1.7"
storage = { UMS = "/dev/x" }

[shared]
text = "for all"
"""


class Bench:
    """A folder in which `lavabox sim` runs, and what it left there."""

    def __init__(self, folder: Path, box: Path) -> None:
        self.folder = folder
        self.box = box

    def start(self, *arguments: str) -> Lavabox:
        reports = ("--junit", "junit.xml", "--results", "results.json", "--log-dir", "logs")
        return Lavabox("sim", "--box", str(self.box), *reports, *arguments, cwd=self.folder)

    def run(self, *arguments: str) -> tuple[int, str]:
        with self.start(*arguments) as process:
            return process.finish(), process.text

    @property
    def document(self) -> Any:
        return json.loads((self.folder / "results.json").read_text())

    @property
    def junit(self) -> ElementTree.Element:
        return ElementTree.parse(self.folder / "junit.xml").getroot()

    def results(self, device: int = 0) -> list[tuple[str, str]]:
        return [(result["id"], result["result"]) for result in self.document["devices"][device]["results"]]

    def log(self, device: str) -> bytes:
        return (self.folder / "logs" / f"{device}.log").read_bytes()


@pytest.fixture
def bench(tmp_path: Path, box: Path) -> Iterator[Bench]:
    yield Bench(tmp_path, box)
    assert not list(tmp_path.glob(".lavabox-*"))


def test_commands_and_text_signals(bench: Bench) -> None:
    script = """
        echo before
        lava-test-case shell --shell 'echo of the test; exit 3'
        lava-test-set start net
        lava-test-case 'a > b' --result pass --measurement 12.50 --units 'm s'
        lava-test-set stop
        echo '<LAVA_SIGNAL_STARTTC text>'
        echo between
        echo '<LAVA_SIGNAL_ENDTC text>'
        echo '<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=text RESULT=PASS>'
        echo '<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=text PASS>'
        lava-test-event halfway
        true
    """
    status, text = bench.run("--role", f"a={script}", "--role", "b=lava-test-case other --result skip")
    assert status == 1
    of_a = "\n".join(line for line in text.splitlines() if line.startswith("a-1"))
    assert "a-1 | before\na-1 | of the test\na-1 = fail  shell  (1 failed" in of_a
    assert "a-1 = pass  a > b [12.50 m s]  (" in text
    assert "a-1 = pass  text  (" in text
    assert "b-1 = skip  other  (" in text
    assert (
        "a-1 ! malformed signal '<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=text PASS': 'PASS' is no KEY=VALUE\n"
        in text
    )
    assert text[text.index("\ndevice  run") :] == (
        "\n"
        "device  run  set  pass  fail  skip  unknown\n"
        "a-1     -    -       1     1     0        0\n"
        "a-1     -    net     1     0     0        0\n"
        "b-1     -    -       0     0     1        0\n"
        "lavabox: a-1: test 'shell' failed\n"
        "lavabox: a-1: 1 malformed signal, not recorded\n"
    )
    assert bench.results(0) == [("shell", "fail"), ("a > b", "pass"), ("text", "pass")]
    assert bench.results(1) == [("other", "skip")]
    device = bench.document["devices"][0]
    log = bench.log("a-1")
    pieces = [log[result["output"]["start"] : result["output"]["end"]] for result in device["results"][::2]]
    assert pieces == [b"of the test\r\n", b"\r\nbetween\r\n"]
    assert log[device["results"][2]["position"] :].startswith(b"<LAVA_SIGNAL_TESTCASE")
    assert [remark["text"] for remark in device["events"]] == ["halfway"]
    assert device["results"][0]["seconds"] > 0
    assert bench.junit.attrib == {"name": "lavabox", "tests": "4", "failures": "1", "errors": "0"}


def test_signals_in_pieces_and_cut_by_kernel_messages(bench: Bench) -> None:
    script = r"""
        printf '<LAVA_SIGNAL_TESTCASE TEST_CASE'; lava-self >/dev/null
        printf '_ID=pieces RESULT=pass>\n'
        printf '<LAVA_SIG[   12.345678] usb 1-1: a > b\nNAL_TESTCASE TEST_CASE_ID=c[   12.345679] x\nut RESULT=pass>\n'
        printf '[   12.345680] <LAVA_SIGNAL_TESTCASE TEST_CASE_ID=kmsg RESULT=pass>\n'
        printf '<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=lost RESunstamped\nULT=pass>\n'
    """
    status, text = bench.run("--role", f"a={script}")
    assert status == 0
    assert bench.results() == [("pieces", "pass"), ("cut", "pass"), ("kmsg", "pass")]
    assert text.count("a-1 ! malformed signal") == 1
    assert bench.document["devices"][0]["malformed_signals"]["count"] == 1
    # All of it is in the log.
    assert bench.log("a-1").count(b"\r\n") == 7


def test_success(bench: Bench) -> None:
    status, text = bench.run("--role", "a=lava-test-case x --result pass; lava-test-case y --result unknown")
    assert status == 0
    assert bench.document["failures"] == []
    assert text.endswith("a-1     -    -       1     0     0        1\n")


def test_no_results(bench: Bench) -> None:
    status, text = bench.run("--role", "a=true")
    assert status == 0
    assert "pass" not in text
    assert bench.document["devices"][0]["results"] == []
    assert len(bench.junit) == 0


FAILURES = {
    "a run ends early": (
        "echo '<LAVA_SIGNAL_STARTRUN 0_smoke u>'; true",
        "a-1: run '0_smoke' ended early: the device ended with status 0",
    ),
    "raise": ("lava-test-raise 'no network' || true", "a-1: lava-test-raise: no network"),
    "raise by text": ("echo '<LAVA_SIGNAL_TESTRAISE no network>'", "a-1: lava-test-raise: no network"),
    "a set in a set": (
        "lava-test-set start one; lava-test-set start two || exit 9; lava-test-case x --result fail",
        "a-1: test 'x' failed (set 'two')",
    ),
    "a result that is refused": (
        "lava-test-case x --result bogus || true",
        "a-1: refused: lava-test-case x --result bogus: "
        "--result must be one of pass, fail, skip, unknown, not 'bogus'",
    ),
    "a wait that is refused": (
        "lava-sync || true",
        "a-1: refused: lava-sync: an argument is missing",
    ),
}


IN_TABLE = {
    "case": "1 failed result",
    "run": "1 failed run",
    "raise": "1 lava-test-raise",
    "refused": "1 refused command",
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures(bench: Bench, name: str) -> None:
    script, sentence = FAILURES[name]
    status, text = bench.run("--role", f"a={script}")
    assert status == 1
    assert text.endswith(f"\nlavabox: {sentence}\n")
    (failure,) = bench.document["failures"]
    assert f"a-1     a     {IN_TABLE[failure['kind']]}" in text
    assert f"{failure['device']}: {failure['sentence']}" == sentence


def test_a_device_that_fails_is_in_the_reports(bench: Bench) -> None:
    status, _ = bench.run("--role", "a=exit 3")
    assert status == 1
    assert bench.document["failures"] == [
        {"kind": "device", "device": "a-1", "sentence": "ended with status 3"}
    ]
    assert bench.junit.get("errors") == "1"


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(bench: Bench, number: signal.Signals, expected: int) -> None:
    script = "lava-test-case first --result pass; echo '<LAVA_SIGNAL_STARTRUN r u>'; echo ready; read x"
    with bench.start("--role", f"a={script}") as process:
        process.until("a-1 | ready")
        process.interrupt(number)
        assert process.finish() == expected
    assert bench.results() == [("first", "pass")]
    assert [failure["sentence"] for failure in bench.document["failures"]] == [
        "run 'r' ended early: the device was stopped",
        "stopped",
    ]
    assert bench.junit.get("tests") == "3"


def test_reports_of_an_earlier_run_are_replaced(bench: Bench) -> None:
    (bench.folder / "junit.xml").write_text("old")
    (bench.folder / "results.json").write_text("old")
    with bench.start("--role", "a=echo ready; read x") as process:
        process.until("a-1 | ready")
        # Not before there is something new.
        assert (bench.folder / "junit.xml").read_text() == "old"
        process.interrupt()
        process.finish()
    assert bench.junit.get("name") == "lavabox"
    assert bench.document["format"] == 1


def test_a_report_that_can_not_be_written_in_the_end(bench: Bench) -> None:
    (bench.folder / "gone").mkdir()
    status, text = bench.run("--results", "gone/results.json", "--role", f"a=rmdir {bench.folder}/gone")
    assert status == 1
    assert "lavabox: --results: gone/results.json could not be written: " in text
    assert bench.junit.get("name") == "lavabox"


REFUSED = {
    "no folder": (("--junit", "none/junit.xml"), 1, "lavabox sim: --junit: there is no folder "),
    "a folder": (("--results", "."), 1, "lavabox sim: --results: . is a folder"),
    "no configuration": (("--device-config", "none"), 2, "lavabox sim: --device-config none: "),
    "a bad configuration": (
        ("--device-config", "bad.toml"),
        2,
        "lavabox sim: --device-config bad.toml: [devices.a] has no key 'ip'; it can have target-ip, target-mac, probe-ip, "
        "probe-channel, storage (at line 3)\n",
    ),
    "a configuration that is no TOML": (("--device-config", "worse.toml"), 2, "(at line 2, column "),
    "a configuration that is no text": (("--device-config", "worst.toml"), 2, "can't decode byte"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(bench: Bench, name: str) -> None:
    (bench.folder / "bad.toml").write_text("\n[devices.a]\nip = '1'\n")
    (bench.folder / "worse.toml").write_text("[devices.a]\ntarget-ip =\n")
    (bench.folder / "worst.toml").write_bytes(b"\xff")
    arguments, expected, sentence = REFUSED[name]
    status, text = bench.run(*arguments, "--role", "a=echo not reached")
    assert status == expected
    assert sentence in text
    assert "not reached" not in text


def test_device_configuration(bench: Bench) -> None:
    (bench.folder / "devices.toml").write_text(CONFIGURATION)
    script = "lava-target-ip; lava-target-mac; lava-target-storage UMS; lava-echo-config"
    status, text = bench.run(
        "--device-config", "devices.toml", "--role", f"a={script}", "--role", "b=lava-target-ip"
    )
    assert status == 0
    assert [line for line in text.splitlines() if line.startswith("a-1 |")] == [
        *("a-1 | 192.168.1.7", "a-1 |", "a-1 | /dev/x", "a-1 | for all"),
    ]
    assert "b-1 |\n" in text


def test_serve(bench: Bench) -> None:
    """Two runs, one log: the positions of the second lie behind what the first has left."""
    command = "echo hello; echo '<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=x RESULT={}>'"
    options = (
        "--log-dir",
        "logs",
        "--group-log",
        "group",
        "--results",
        "results.json",
        "--junit",
        "junit.xml",
    )
    for number, result in enumerate(("pass", "fail")):
        console = f"a:role=exec:{command.format(result)}"
        with Lavabox("serve", *options, "--console", console, cwd=bench.folder) as process:
            assert process.finish() == number
        assert f"a = {result}  x  (" in process.text
    assert process.text.endswith("\nlavabox: a: test 'x' failed\n")
    # The group log knows both runs.
    first, second = bench.document["devices"][0]["results"]
    log = bench.log("a")
    for result in (first, second):
        assert log[result["position"] :].startswith(
            b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=x RESULT=" + result["result"].encode()
        )


def test_serve_that_is_interrupted(bench: Bench) -> None:
    command = "echo '<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=x RESULT=fail>'; echo ready; read x"
    options = ("--results", "results.json", "--console", f"a:role=exec:{command}")
    with Lavabox("serve", *options, cwd=bench.folder) as process:
        process.until("a | ready")
        process.interrupt()
        # That is how serving ends.
        assert process.finish() == 0
    assert bench.results() == [("x", "fail")]
    assert "lavabox: a: test 'x' failed\n" in process.text
