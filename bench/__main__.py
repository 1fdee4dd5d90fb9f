# SPDX-License-Identifier: MIT
"""What the documents state, measured: `python -m bench [SECTION ...]`, `make bench`.

Tables go to stdout, and what was measured to build/bench.json, where the other sections stay as they were.
With --documents the table and the picture of all that stands there replace those in docs/. With --compare OLD.json
nothing is measured: the rows of another build/bench.json are shown beside those of this one.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import build_zipapp
from bench import console, demultiplexer, engine, events, flow, lab, lava, picture, startup, wire
from bench.row import HEAD, WORSE, Row, compared, line, show

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "build" / "bench.json"
FIGURES = ROOT / "docs" / "figures.md"
PICTURE = ROOT / "docs" / "images" / "bench.svg"


def _start() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        box = build_zipapp.build(Path(name) / "lavabox")
        for row in startup.rows(box, [Path(sys.executable).resolve()]):
            title = f"{row['what']} ({row['python']})".replace(" ()", "")
            yield Row(title, row["value"], row["unit"], row.get("lava"))


# Name, title, rows.
SECTIONS: dict[str, tuple[str, Callable[[], Iterable[Row]]]] = {
    "start": ("Start of a command, against the bare interpreter `python3 -I -S -c pass`", _start),
    "wire": ("Bytes on the line, and the time of a sync", wire.rows),
    "console": ("The output of consoles", console.rows),
    "demultiplexer": ("Reading output, in memory", demultiplexer.rows),
    "engine": ("The engine", engine.rows),
    "events": ("A group of very many events", events.rows),
    "lab": ("A lab of many consoles", lab.rows),
    "coordinator": ("A coordinator that speaks LAVA's protocol", lab.request_rows),
    "flow": ("The page of a flow", flow.rows),
    "lava": ("Results over a bad line", lava.rows),
}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what the documents state.")
    parser.add_argument("section", nargs="*", help=f"what to measure: {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--documents", action="store_true", help="write docs/figures.md and its picture")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="measure nothing: show build/bench.json beside another one, and what is worse by more than a tenth; "
        "the exit status is then 1",
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.section if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]!r}; the sections are {', '.join(SECTIONS)}")
    measured: dict[str, Any] = json.loads(JSON.read_text()) if JSON.exists() else {}
    if arguments.compare is not None:
        sys.exit(_compare(json.loads(arguments.compare.read_text()), measured))
    machine, failed = _machine(), []
    for name in arguments.section or SECTIONS:
        title, rows = SECTIONS[name]
        print(f"\n## {title}\n")
        began = time.monotonic()
        try:
            found = show(rows())
        except Exception:
            # The others are worth having.
            traceback.print_exc()
            failed.append(name)
            continue
        print(f"\n({name}: {time.monotonic() - began:.0f} s)", flush=True)
        measured[name] = {"machine": machine, "rows": [asdict(row) for row in found]}
        JSON.parent.mkdir(exist_ok=True)
        JSON.write_text(json.dumps(measured, indent=1) + "\n")
    if arguments.documents:
        FIGURES.write_text(_document(measured))
        PICTURE.write_text(picture.svg(_rows(measured)))
    if failed:
        sys.exit(f"not measured, as above: {', '.join(failed)}")


def _compare(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Print what both have measured; returns 1 if a row is worse by more than a tenth."""
    old = {row.name: row for row in _rows(before)}
    pairs = [(old[row.name], row) for row in _rows(after) if row.name in old]
    print("| what | before | after | better | |\n|---|---|---|---|---|")
    for one, other in pairs:
        print(compared(one, other))
    worse = sum(other.gain(one) < WORSE for one, other in pairs)
    print(f"\n{len(pairs)} rows, {worse} of them worse by more than a tenth")
    return int(worse > 0)


def _machine() -> str:
    """The machine, and how busy it is with other things."""
    models = [
        text for text in Path("/proc/cpuinfo").read_text().splitlines() if text.startswith("model name")
    ]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    kernel = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} x {model}, {kernel}, {python}; load average {os.getloadavg()[0]:.1f}"


def _rows(measured: dict[str, Any]) -> list[Row]:
    return [Row(**row) for name in SECTIONS if name in measured for row in measured[name]["rows"]]


def _document(measured: dict[str, Any]) -> str:
    parts = [
        "# Figures\n\nWritten by `make bench` (`python -m bench --documents`); what was tried to better them, and what was "
        "not, is in [performance.md](performance.md). Times differ from machine to machine and from run to run, and with "
        "the load; the ratios say more. LAVA's side is measured where Debian's `lava-dispatcher` and `lava-coordinator` are installed "
        "([performance.md](performance.md#beside-lava) says how); where it is empty, LAVA has no such thing or can not do it.\n\n"
        "![The figures that users feel, as bars](images/bench.svg)\n"
    ]
    machine = None
    for name, (title, _) in SECTIONS.items():
        if name not in measured:
            continue
        parts.append(f"\n## {title}\n\n")
        if measured[name]["machine"] != machine:
            machine = measured[name]["machine"]
            parts.append(f"On {machine}.\n\n")
        rows = [Row(**row) for row in measured[name]["rows"]]
        parts.append(
            "\n".join([HEAD, *map(line, rows)]) + "\n" if rows else "Not measured: LAVA is not installed.\n"
        )
    return "".join(parts)


if __name__ == "__main__":
    main()
