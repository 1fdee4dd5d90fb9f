# SPDX-License-Identifier: MIT
"""Start-up of commands, as ratios to the bare interpreter in the same run: `python -m bench.startup [PYTHON ...]`.

Processor time, which other processes disturb less than the clock; the shell that starts the interpreter is part of
it, and of `lava-self` the agent's share. The box has bytecode for the Python that runs this; on any other it runs
from source. Where valgrind is installed, instructions are counted too, in user space and in the process of the
command alone: they hardly vary.

LAVA's side, where it is installed (bench/lavaprograms.py): the processor time of its shell scripts, which start other
programs, to the same bare interpreter. Once by dash with Debian's programs, and once by busybox with its own.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import build_zipapp
from bench import lavaprograms
from tests.consoles import Lab
from toolkit.commands import COMMANDS, SOURCED

RUNS = 20
BARE = ("-I", "-S", "-c", "pass")
# Commands in one measurement with an agent there: more than its clock ticks can blur.
IN_A_ROW = 20
# Commands that are started at once on one console, and seconds that all of them may take.
AT_ONCE = 1000
ALL_AT_ONCE = 300


class Row(TypedDict):
    """One line of the table, and of build/bench.json."""

    what: str
    python: str
    value: float
    unit: str
    # The same of LAVA's own programs, where they are installed.
    lava: NotRequired[float | None]


# Commands whose start is measured with an agent there.
FREQUENT = ("lava-self", "lava-send id k=v", "lava-wait m", "lava-test-case ok --result pass")

# Runs on the device's console: what the commands, and the agent that is there, take of the processor.
_ON_CONSOLE = """
import json, os, resource, sys, time
count, commands, bare = int(sys.argv[1]), sys.argv[2:], ["python3", "-I", "-S", "-c", "pass"]
def run(argv):
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    os.waitpid(os.posix_spawnp(argv[0], argv, os.environ, file_actions=quiet), 0)
def children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
def agent():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/schedstat") as stat:
                tty = os.ttyname(0)
                files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
                if comm.read() == "lavabox-agent\\n" and tty in files:
                    return int(stat.read().split()[0]) / 1e9
        except OSError:
            continue
    return 0.0
found = {"bare": [], "rested": [], "started": [], **{command: [] for command in commands}}
for _ in range(count):
    before = children()
    run(bare)
    found["bare"].append(children() - before)
def start():
    before = children()
    run(commands[0].split())
    found["started"].append(children() - before + agent())
def rest():
    before = children()
    run(bare)
    found["rested"].append(children() - before)
for _ in range(5):
    # Behind two seconds without work everything takes longer: the bare one, too.
    for measure in (start, rest):
        while agent():
            time.sleep(0.1)
        measure()
    run(commands[0].split())
for _ in range(5):
    for command in commands:
        run(command.split())
        before = children() + agent()
        for _ in range(count):
            run(command.split())
        found[command].append((children() + agent() - before) / count)
print(json.dumps(found))
"""


def rows(box: Path, pythons: Sequence[Path]) -> list[Row]:
    """Measure; `pythons` are interpreters."""
    found: list[Row] = [
        {"what": "size of the box", "python": "", "value": box.stat().st_size, "unit": "bytes"}
    ]
    for python in pythons:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "python3").symlink_to(python)
            (folder / "c").mkdir()
            environ = {"PATH": f"{folder}:/usr/bin:/bin"}
            subprocess.run([box, "--install", "-s", folder / "c"], check=True, env=environ)
            version = _version(python)
            single = build_zipapp.build(folder / "single", str(python)).stat().st_size
            found.append({"what": "box for one Python", "python": version, "value": single, "unit": "bytes"})
            found += _helps(folder, environ, version)
            found += _on_console(box, folder, version)
            found += _instructions(box, folder, environ, version)
    with tempfile.TemporaryDirectory() as name:
        found.append(_at_once(box, Path(name)))
    return found


def _version(python: Path) -> str:
    said = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
    return said.stdout.split()[1]


def _helps(folder: Path, environ: Mapping[str, str], version: str) -> list[Row]:
    """`COMMAND --help` reads and starts all that the command itself consists of, and nothing else."""
    lines = {name: [str(folder / "c" / name), "--help"] for name in COMMANDS if name != SOURCED}
    lines["bare"] = [str(folder / "python3"), *BARE]
    times: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(RUNS):
        # In turns, so that what slows the machine down slows all of them.
        for name, line in lines.items():
            times[name].append(_processor_time(line, environ))
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians.pop("bare")
    return [
        {"what": "bare interpreter", "python": version, "value": base * 1000, "unit": "ms"},
        {"what": "--help, median command", "python": version, "value": statistics.median(medians.values()) / base, "unit": "x bare"},
        {"what": "--help, slowest command", "python": version, "value": max(medians.values()) / base, "unit": "x bare"},
    ]  # fmt: skip


def _on_console(box: Path, folder: Path, version: str) -> list[Row]:
    """Commands on a pty, with a dispatcher that answers, in this process and so not counted."""
    with Lab(box, folder, {"a": "server", "b": "client"}) as lab:
        lab["b"].run("lava-send m k=v")
        board, result = lab["a"], folder / "result"
        commands = " ".join(f"'{command}'" for command in FREQUENT)
        script = f"PATH={folder}:{lab.commands}:$PATH {sys.executable} -c '{_ON_CONSOLE}' {IN_A_ROW} {commands} >{result}"
        board.start(script).wait(600)
        found = json.loads(result.read_text())
    # What others do meanwhile only adds to it.
    ours = {what: min(times) / min(found["bare"]) for what, times in found.items()}
    ours["started"] = min(found["started"]) / min(found["rested"])
    dash, busybox = (_of_lava(folder / shell, shell) for shell in ("dash", "busybox"))
    started: Row = {
        "what": "lava-self, agent started",
        "python": version,
        "value": ours["started"],
        "unit": "x bare",
    }
    return [
        started,
        *(
            {"what": f"{command}, agent there{by}", "python": version, "value": ours[command], "unit": "x bare", "lava": lava.get(command)}
            for command in FREQUENT
            for by, lava in (("", dash), ("; LAVA's by busybox", busybox))
            if lava or not by
        ),
    ]  # fmt: skip


def _of_lava(folder: Path, shell: str) -> dict[str, float]:
    """LAVA's commands, by a shell, to the bare interpreter; nothing where one of them is not installed."""
    program = shutil.which(shell)
    lava = lavaprograms.dispatcher()
    if program is None or lava is None:
        return {}
    folder.mkdir()
    # busybox is the shell, and grep, sed and so on, by its links alone.
    path = "/usr/bin:/bin"
    if shell == "busybox":
        tools = folder / "tools"
        tools.mkdir()
        subprocess.run([program, "--install", "-s", tools], check=True)
        path, program = str(tools), str(tools / "sh")
    scripts = lavaprograms.scripts(lava, folder / "bin", program)
    answer = folder / "answer"
    answer.write_text("<LAVA_WAIT_COMPLETE a:k=v>\n")
    environ = {"PATH": f"{scripts}:{path}", "LAVABOX_DEVICE": "a", "LAVA_RESULT_DIR": str(folder)}
    lines = {command: [str(scripts / command.split()[0]), *command.split()[1:]] for command in FREQUENT}
    lines["bare"] = [str(folder.parent / "python3"), *BARE]
    times: dict[str, list[float]] = {command: [] for command in lines}
    for _ in range(RUNS):
        for command, line in lines.items():
            # What the dispatcher would type is there already.
            times[command].append(_processor_time(line, environ, answer))
    return {command: min(values) / min(times["bare"]) for command, values in times.items()}


def _at_once(box: Path, folder: Path) -> Row:
    """How many commands fail where so many share the processors that each has to wait for its turn."""
    statuses = folder / "statuses"
    one = f"(lava-self >/dev/null 2>&1; echo $? >>{statuses})"
    with Lab(box, folder, {"a": "server"}) as lab:
        lab["a"].start(f"for i in $(seq {AT_ONCE}); do {one} & done; wait").wait(ALL_AT_ONCE)
    done = statuses.read_text().split().count("0")
    return {"what": f"{AT_ONCE} commands at once: failed", "python": "", "value": AT_ONCE - done, "unit": ""}


def _instructions(box: Path, folder: Path, environ: Mapping[str, str], version: str) -> list[Row]:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return []
    counted = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    python = str((folder / "python3").resolve())
    (folder / "start").write_text(build_zipapp.START)
    start = [python, "-E", "-s", "-S", "-c", build_zipapp.START]
    found: list[Row] = []
    for what, line in (
        ("bare interpreter", [python, *BARE]),
        ("lava-self --help", [*start, str(box), "lava-self", "--help"]),
    ):
        done = subprocess.run([*counted, *line], capture_output=True, text=True, check=True, env=environ)
        found.append(_counted(what, version, done.stderr))
    # An agent lives for two seconds without commands, and a counted one takes longer to begin.
    script = [f"PATH={folder}:$PATH", "lava-wait never & waits=$!", "lava-self"]
    for number, command in enumerate(FREQUENT):
        log = f"--log-file={folder}/log{number}"
        script.append(
            f'{" ".join(counted)} {log} {" ".join(start[:5])} "$(cat {folder}/start)" {box} {command} >/dev/null'
        )
    (folder / "counted").mkdir()
    with Lab(box, folder / "counted", {"a": "server", "b": "client"}) as lab:
        lab["b"].run("lava-send m k=v")
        lab["a"].start("\n".join([*script, "kill $waits"])).wait(ALL_AT_ONCE)
    for number, command in enumerate(FREQUENT):
        found.append(_counted(f"{command}, agent there", version, (folder / f"log{number}").read_text()))
    return found


def _counted(what: str, version: str, said: str) -> Row:
    (count,) = re.findall(r"Collected : (\d+)", said)
    return {"what": f"{what}, counted", "python": version, "value": int(count), "unit": "instructions"}


def _processor_time(argv: list[str], environ: Mapping[str, str], stdin: Path | None = None) -> float:
    """Seconds, of the process and of those that it waited for."""
    files = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    if stdin is not None:
        files.append((os.POSIX_SPAWN_OPEN, 0, str(stdin), os.O_RDONLY, 0))
    pid = os.posix_spawn(argv[0], argv, environ, file_actions=files)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(argv)} ended with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def print_table(found: Sequence[Row]) -> None:
    """The rows, for people."""
    print("| what | Python | | LAVA |\n|---|---|---|---|")
    for row in found:
        digits = 2 if row["unit"] == "x bare" else 1 if row["unit"] == "ms" else 0
        lava = row.get("lava")
        theirs = "" if lava is None else f"{lava:.{digits}f} {row['unit']}"
        print(f"| {row['what']} | {row['python']} | {row['value']:.{digits}f} {row['unit']} | {theirs} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Start-up of commands, as ratios to the bare interpreter.")
    parser.add_argument("python", nargs="*", type=Path, help="interpreters (default: the one that runs this)")
    pythons = parser.parse_args().python or [Path(sys.executable).resolve()]
    with tempfile.TemporaryDirectory() as name:
        print_table(rows(build_zipapp.build(Path(name) / "lavabox"), pythons))


if __name__ == "__main__":
    main()
