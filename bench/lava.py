# SPDX-License-Identifier: MIT
"""`python -m bench.lava [FOLDER]`: a thousand results, by this box and by LAVA's own scripts.

Both run on a simulated device, over the same bad line, one after the other. LAVA's
`lava-test-case` prints signals; what its dispatcher would record of them is what the pattern
in its source finds in the console's log. FOLDER is LAVA's `lava_dispatcher`, where it is not Debian's, which
bench/lavaprograms.py finds.
"""

import argparse
import ast
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.lavaprograms import dispatcher, scripts
from bench.row import Row

# For `python -m bench lava`.
RESULTS = 200
FAULTS = "printk=50"
SCRIPT = """\
number=0
while [ $number -lt $1 ]; do
    number=$((number + 1))
    lava-test-case case-$number --result pass --measurement $number --units ms || exit 1
done
"""


def run(
    folder: Path, name: str, count: int, faults: str, path: Path | None
) -> tuple[bytes, list[tuple[str, str]]]:
    """The device's log, and the results that our dispatcher has of it: (id, measurement).

    :param path: a folder with other commands than the box's.
    """
    script = folder / "script.sh"
    script.write_text(SCRIPT)
    command = f"sh {script} {count}"
    if path is not None:
        command = f"export LAVA_RESULT_DIR={folder}; PATH={shlex.quote(str(path))}:$PATH {command}"
    options = [
        "--faults",
        faults,
        "--seed",
        "7",
        "--log-dir",
        str(folder / name),
        "--device",
        f"d:t={command}",
    ]
    results = folder / f"{name}.json"
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher", "sim", "--results", str(results), *options],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode not in (0, 1) or not results.exists():
        sys.exit(f"bench.lava: lavabox sim ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    document = json.loads(results.read_text())
    cases = [(str(case["id"]), str(case["measurement"])) for case in _cases(document)]
    return (folder / name / "d.log").read_bytes(), cases


def _cases(document: object) -> Iterable[dict[str, object]]:
    """All objects that are results, wherever they stand."""
    if isinstance(document, dict):
        if {"id", "result", "measurement"} <= document.keys():
            yield document
        document = list(document.values())
    if isinstance(document, list):
        for item in document:
            yield from _cases(item)


def signal_pattern(source: Path) -> re.Pattern[str]:
    """The pattern by which LAVA's dispatcher finds a signal, read from its source."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if (
                    isinstance(key, ast.Constant)
                    and key.value == "signal"
                    and isinstance(value, ast.Constant)
                ):
                    return re.compile(str(value.value))
    sys.exit(f"bench.lava: {source} has no pattern for signals")


def of_signals(log: bytes, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """The results in a console's log, as LAVA's dispatcher reads them."""
    cases = []
    for match in pattern.finditer(log.decode(errors="replace")):
        if match[1] == "TESTCASE":
            fields = dict(re.findall(r"(\w+)=(\S+)", match[2]))
            cases.append((fields.get("TEST_CASE_ID", ""), fields.get("MEASUREMENT", "")))
    return cases


def row(title: str, count: int, cases: list[tuple[str, str]]) -> str:
    wanted = Counter((f"case-{number}", str(number)) for number in range(1, count + 1))
    right = (wanted & Counter(cases)).total()
    return f"| {title} | {right} | {len(cases) - right} | {count - right} |"


def rows() -> Iterator[Row]:
    """What is recorded of RESULTS results; nothing where LAVA is not installed."""
    lava = dispatcher()
    if lava is None:
        return
    source = lava / "actions" / "test" / "shell.py"
    wanted = Counter((f"case-{number}", str(number)) for number in range(1, RESULTS + 1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        _, ours = run(folder, "lavabox", RESULTS, FAULTS, None)
        log, _ = run(folder, "lava", RESULTS, FAULTS, scripts(lava, folder / "scripts"))
        theirs = of_signals(log, signal_pattern(source))
    title = f"recorded of {RESULTS} results, at 50 kernel messages a second"
    yield Row(title, (wanted & Counter(ours)).total(), "results", (wanted & Counter(theirs)).total())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.lava", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=dispatcher(), help="default: %(default)s")
    parser.add_argument("--results", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--faults", default=FAULTS, help="of the line (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("Debian's lava-dispatcher is not installed; install it, or name the folder")
    source = arguments.folder / "actions" / "test" / "shell.py"
    if not source.is_file():
        parser.error(f"{arguments.folder} is not LAVA's lava_dispatcher: there is no actions/test/shell.py")
    count: int = arguments.results
    print(f"{count} results, {arguments.faults}\n\n| | recorded | wrong | missing |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        _, cases = run(folder, "lavabox", count, arguments.faults, None)
        print(row("lavabox: frames", count, cases), flush=True)
        commands = scripts(arguments.folder, folder / "scripts")
        log, cases = run(folder, "lava", count, arguments.faults, commands)
        print(row("LAVA's script, LAVA's pattern", count, of_signals(log, signal_pattern(source))))
        print(row("LAVA's script, lavabox reading its text signals", count, cases))


if __name__ == "__main__":
    main()
