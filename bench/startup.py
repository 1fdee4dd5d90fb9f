# SPDX-License-Identifier: MIT
"""Start-up of each command, as a ratio to that of the bare interpreter.

`COMMAND --help` reads and starts all that the command itself consists of, and
nothing else. Processor time, which other processes disturb less than the
clock; the shell that starts the interpreter is part of it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import build_zipapp
from toolkit.commands import COMMANDS, SOURCED

RUNS = 20


def measure(commands: Path, environ: Mapping[str, str]) -> None:
    """Print the table for the links in a folder; `environ` has the interpreter first in its PATH."""
    python = [str(commands / "python3"), "-I", "-S", "-c", "pass"]
    lines = {name: [str(commands / name), "--help"] for name in COMMANDS if name != SOURCED}
    times: dict[str, list[float]] = {name: [] for name in lines}
    bare = []
    for _ in range(RUNS):
        # In turns, so that what slows the machine down slows all of them.
        bare.append(_processor_time(python, environ))
        for name, line in lines.items():
            times[name].append(_processor_time(line, environ))
    base = statistics.median(bare)
    print(f"\nProcessor time of `COMMAND --help`, median of {RUNS}; bare `python3 -I -S -c pass`:", end=" ")
    print(f"{base * 1000:.1f} ms\n")
    print("| command | ratio |")
    print("|---|---|")
    for name, values in sorted(times.items(), key=lambda item: statistics.median(item[1])):
        print(f"| `{name}` | {statistics.median(values) / base:.2f} |")


def _processor_time(argv: list[str], environ: Mapping[str, str]) -> float:
    """Seconds, of the process and of those that it waited for."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(argv[0], argv, environ, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(argv)} ended with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        box = build_zipapp.build(folder / "lavabox")
        commands = folder / "bin"
        commands.mkdir()
        (commands / "python3").symlink_to(Path(sys.executable).resolve())
        environ = {"PATH": f"{commands}:/usr/bin:/bin"}
        subprocess.run([box, "--install", "-s", commands], check=True, env=environ)
        measure(commands, environ)


if __name__ == "__main__":
    main()
