# SPDX-License-Identifier: MIT
"""Runs a multi-node job of two devices by LAVA's own dispatcher, unchanged, with the consoles hooked, and counts.

    python -m tests.lava.two_devices                        # Debian's lava-dispatcher
    python -m tests.lava.two_devices --lava ../lava --python ../venv/bin/python   # a checkout of LAVA
    ... --way relay            # hooks that hand multi-device commands on to LAVA
    ... --way entry            # the same, and LAVA's runner starts the box
    ... --way none             # LAVA alone, with LAVA's own commands

Each device is a bash on a pty, with kernel messages in what it prints (`--printk`, a second). It reports
results with measurements, sends, waits and syncs. Needs root, as LAVA does. The folders that LAVA and its
overlay write to are replaced in a mount namespace, so nothing is left there but empty ones.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import build_zipapp

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / "build" / "lava"
# The roles of the jobs. No two runs at a time have the same ones, as LAVA's folder on a device is named after its job.
ROLES = {f"{os.getpid()}1": "client", f"{os.getpid()}2": "server"}
# How a console is reached, and who answers multi-device commands: hooks and `lavabox coordinator`; hooks that hand them on
# to LAVA; the same with the box started by LAVA's runner; LAVA alone.
WAYS = ("coordinator", "relay", "entry", "none")
# Seconds that the jobs get.
PATIENCE = 600
# A message for LAVA's own commands; and one that they would change, or not send at all.
PLAIN, WORDS = "word=hello", "'some-words=a  b > c = d'"
# LAVA's folders that a job writes to or reads: its own in the namespace.
_FOLDERS = ("/var/lib/lava/dispatcher/tmp", "/etc/lava-coordinator")


@dataclass(frozen=True)
class Lava:
    """LAVA's dispatcher: the Python to run it with, the program, and what it imports."""

    python: str
    program: str
    path: str | None = None


def installed() -> Lava | None:
    """Debian's, if it is there: its package, or what .ci/run has unpacked of it."""
    if (program := UNPACKED / "usr/bin/lava-run").exists():
        return Lava("/usr/bin/python3", str(program), str(UNPACKED / "usr/lib/python3/dist-packages"))
    found = shutil.which("lava-run")
    return None if found is None else Lava("/usr/bin/python3", found)


@dataclass
class Outcome:
    """What LAVA recorded of one job."""

    job: str
    cases: dict[str, list[dict[str, Any]]]
    log: str

    def result(self, case: str) -> str | None:
        """Of a case that has one result."""
        found = self.cases.get(case, [])
        return str(found[0]["result"]) if len(found) == 1 else None


def run(lava: Lava, folder: Path, *, results: int, printk: float, way: str = "coordinator") -> list[Outcome]:
    """Run both jobs to their end."""
    commands = folder / "bin"
    commands.mkdir()
    box = build_zipapp.build(folder / "box" / "lavabox")
    subprocess.run([box, "--install", "-s", commands], check=True, stdout=subprocess.DEVNULL)
    for job, role in ROLES.items():
        _write_job(folder, job, role, way, results, printk)
    (folder / "fetch").write_text('#!/bin/sh\ncp "/var/lib/lava/dispatcher/tmp/${1#*/tmp/}" .\n')
    (folder / "fetch").chmod(0o755)
    environment = dict(os.environ)
    if lava.path is not None:
        # For images of disks, which no job here has. It is asked for all the same when LAVA is imported.
        (folder / "python").mkdir()
        (folder / "python" / "guestfs.py").touch()
        environment["PYTHONPATH"] = f"{lava.path}:{folder}/python"
    for path in _FOLDERS:
        Path(path).mkdir(parents=True, exist_ok=True)
    with _coordinator(folder) as port:
        (folder / "coordinator.conf").write_text(
            f'{{"port": {port}, "blocksize": 4096, "poll_delay": 1, "coordinator_hostname": "localhost"}}'
        )
        (folder / "start").write_text(_start(lava, folder))
        subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", folder / "start"],
            env=environment,
            timeout=PATIENCE,
            check=True,
        )
    return [_read(folder / job) for job in ROLES]


def _start(lava: Lava, folder: Path) -> str:
    lines = [f"mount -t tmpfs lavabox {path}" for path in _FOLDERS]
    lines += [f"mkdir /lava-{job} && mount -t tmpfs lavabox /lava-{job}" for job in ROLES]
    lines.append(f"cp {folder}/coordinator.conf /etc/lava-coordinator/lava-coordinator.conf")
    for job in ROLES:
        at = folder / job
        lines.append(
            f"(cd {at} && exec {lava.python} {lava.program} --job-id {job} --output-dir {at} "
            f"--device {at}/device.yaml --dispatcher {at}/dispatcher.yaml {at}/job.yaml) "
            f">{at}/stdout 2>{at}/stderr </dev/null &"
        )
    return "\n".join(
        ["set -e", *lines, "wait", *(f"umount /lava-{job} && rmdir /lava-{job}" for job in ROLES), ""]
    )


@contextlib.contextmanager
def _coordinator(folder: Path) -> Iterator[int]:
    """Its port for LAVA's dispatchers; hooks find it at `coordinator`."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "dispatcher",
            "coordinator",
            "--lava",
            "127.0.0.1:0",
            f"--socket={folder}/coordinator",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        port = 0
        for line in process.stdout:
            if "port" in line:
                port = int(line.split()[-1])
            if "hooks connect to" in line:
                break
        yield port
    finally:
        process.terminate()
        process.communicate()


def _write_job(folder: Path, job: str, role: str, way: str, results: int, printk: float) -> None:
    at, commands = folder / job, folder / "bin"
    at.mkdir()
    other = next(name for name in ROLES.values() if name != role)
    board = f"{sys.executable} {ROOT}/tests/lava/board.py {printk:g} {role}"
    connect = board
    if way != "none":
        coordinator = f"{folder}/coordinator" if way == "coordinator" else "lava"
        connect = f"{sys.executable} -m dispatcher hook --coordinator {coordinator} -- {board}"
        # LAVA starts it without a shell.
        (at / "hook").write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {connect}\n")
        (at / "hook").chmod(0o755)
        connect = str(at / "hook")
    steps = [
        *([f"export PATH={commands}:$PATH"] if way in ("coordinator", "relay") else []),
        # Both devices are on one machine here.
        f"export LAVA_MULTI_NODE_CACHE={at}/cache",
        "set +x",
        "echo noise on",
        "lava-test-set start numbers",
        f"i=0; while [ $i -lt {results} ]; do i=$((i+1)); "
        "lava-test-case case-$i --result pass --measurement $i --units n; done",
        "lava-test-set stop",
        f"lava-send ready-{role} {PLAIN if way == 'none' else WORDS}",
        f"lava-wait ready-{other}",
        *([f"lava-test-case data --shell grep -Fx {WORDS} {at}/cache"] if way != "none" else []),
        "lava-sync end",
        "echo noise off",
    ]
    definition = {
        "metadata": {
            "format": "Lava-Test Test Definition 1.0",
            "name": "two-devices",
            "description": "two devices",
        },
        "run": {"steps": steps},
    }
    minutes = {"minutes": 8}
    # Of a wait whose request the line has lost, as without the hook.
    short = {"minutes": 2}
    shell = {
        "lava_test_sh_cmd": "/bin/sh",
        "lava_test_results_dir": "/lava-%s",
        "lava_test_shell_file": "~/.bashrc",
    }
    documents = {
        "job": {
            "job_name": "two devices",
            "device_type": "board",
            "priority": "medium",
            "visibility": "public",
            "compatibility": 0,
            "timeouts": {
                "job": minutes,
                "action": minutes,
                "connection": minutes,
                "actions": {},
                "connections": {},
            },
            "protocols": {
                "lava-multinode": {
                    "target_group": "two-devices",
                    "role": role,
                    "roles": ROLES,
                    "group_size": len(ROLES),
                    "sub_id": f"{job}.0",
                    "timeout": short,
                }
            },
            "actions": [
                {"deploy": {"to": "overlay", "os": "debian", "timeout": minutes}},
                {
                    "boot": {
                        "method": "minimal",
                        "reset": False,
                        "prompts": ["board# "],
                        "parameters": {"kernel-start-message": ""},
                        "transfer_overlay": {
                            "download_command": str(folder / "fetch"),
                            "unpack_command": "tar -C / -xzf",
                        },
                        "timeout": minutes,
                    }
                },
                {
                    "test": {
                        # By this LAVA's test action takes multi-device requests.
                        "role": role,
                        "timeout": {"minutes": 4},
                        "definitions": [
                            {
                                "from": "inline",
                                "name": "two",
                                "path": "two.yaml",
                                "repository": definition,
                            }
                        ],
                    }
                },
            ],
        },
        "device": {
            "hostname": f"board-{job}",
            "device_type": "board",
            "commands": {"connect": connect},
            "timeouts": {"actions": {}, "connections": {}},
            "constants": {
                "spawn_maxread": "4092",
                "failure_retry": 1,
                "boot_retry": 1,
                "kernel-start-message": "",
                "default-shell-prompt": "board# ",
                "posix": shell,
            },
            "character_delays": {},
            "environment": {"SHELL": str(folder / "box" / "lavabox")} if way == "entry" else {},
            "actions": {
                "deploy": {"methods": {"overlay": None}, "connections": {"serial": None}},
                "boot": {"methods": {"minimal": None}, "connections": {"serial": None}},
            },
        },
        "dispatcher": {"dispatcher_ip": "127.0.0.1"},
    }
    for name, document in documents.items():
        (at / f"{name}.yaml").write_text(yaml.safe_dump(document))


def _read(at: Path) -> Outcome:
    cases: dict[str, list[dict[str, Any]]] = {}
    log = (at / "stderr").read_text(errors="replace")
    for line in log.splitlines():
        try:
            entry = yaml.safe_load(line)
        except yaml.YAMLError:
            continue
        if isinstance(entry, dict) and entry.get("lvl") == "results" and isinstance(entry["msg"], dict):
            cases.setdefault(str(entry["msg"]["case"]), []).append(entry["msg"])
    return Outcome(at.name, cases, log)


def count(outcome: Outcome, results: int) -> tuple[int, int, int]:
    """How many of the numbered results are recorded as they should be, otherwise, and not at all."""
    right = wrong = missing = 0
    for number in range(1, results + 1):
        found = outcome.cases.pop(f"case-{number}", [])
        good = [
            case
            for case in found
            if float(case.get("measurement") or 0) == number and case["result"] == "pass"
        ]
        right += bool(good)
        missing += not found
        wrong += len(found) - bool(good)
    wrong += sum(len(found) for name, found in outcome.cases.items() if name.startswith("case-"))
    return right, wrong, missing


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lava", metavar="DIR", type=Path, help="a checkout of LAVA")
    parser.add_argument("--python", default=sys.executable, help="with what LAVA needs (for --lava)")
    parser.add_argument("--results", type=int, default=1000, help="of each device (default: %(default)s)")
    parser.add_argument(
        "--printk", type=float, default=50, help="kernel messages a second (default: %(default)g)"
    )
    parser.add_argument("--way", choices=WAYS, default=WAYS[0], help="default: %(default)s")
    arguments = parser.parse_args()
    if arguments.lava is not None:
        checkout = arguments.lava.resolve()
        lava: Lava | None = Lava(arguments.python, f"{checkout}/lava/dispatcher/lava-run", str(checkout))
    else:
        lava = installed()
    if lava is None:
        parser.error("there is no lava-run; install lava-dispatcher, or give --lava")
    with tempfile.TemporaryDirectory() as name:
        outcomes = run(
            lava,
            Path(name),
            results=arguments.results,
            printk=arguments.printk,
            way=arguments.way,
        )
        print("job   ended  recorded  wrong  missing  multi-device")
        for outcome in outcomes:
            right, wrong, missing = count(outcome, arguments.results)
            multi = [case for case in outcome.cases if case.startswith("multinode-")]
            print(
                f"{outcome.job}  {outcome.result('job') or 'not':5}  {right:8}  {wrong:5}  {missing:7}  "
                f"{sum(outcome.result(case) == 'pass' for case in multi)} passed"
            )


if __name__ == "__main__":
    main()
