# SPDX-License-Identifier: MIT
"""LAVA's own programs, for the rows that have a side of LAVA: where they are, and devices run by them.

LAVA is under another licence, so nothing of it is here: what is measured is what Debian's packages `lava-dispatcher`,
`lava-common` and `lava-coordinator` have brought, installed or unpacked by .ci/run into build/lava. Where they are not,
the functions return None, and LAVA's side of the rows stays empty.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.dispatcher.grouplog.natsserver import free_ports

ROOT = Path(__file__).resolve().parent.parent
UNPACKED = ROOT / "build" / "lava"
# What Debian's packages are installed for.
PYTHON = "/usr/bin/python3"
_PACKAGES = "usr/lib/python3/dist-packages"
# Seconds that devices may take.
PATIENCE = 60


def _path(name: str) -> Path | None:
    """A file of the packages, unpacked or installed."""
    return next((root / name for root in (UNPACKED, Path("/")) if (root / name).exists()), None)


def dispatcher() -> Path | None:
    """The folder of LAVA's `lava_dispatcher`."""
    return _path(f"{_PACKAGES}/lava_dispatcher")


def _environ(folder: Path) -> dict[str, str]:
    """For Debian's Python, so that it finds LAVA's modules."""
    # For images of disks, which no device here has. It is asked for all the same when LAVA is imported.
    stand_in = folder / "guestfs.py"
    stand_in.touch()
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{UNPACKED / _PACKAGES}:{folder}"}


def poll_delay() -> float | None:
    """Seconds between two polls in the configuration that lava-coordinator brings."""
    path = _path("etc/lava-coordinator/lava-coordinator.conf")
    return None if path is None else float(json.loads(path.read_text())["poll_delay"])


@contextmanager
def coordinator(folder: Path, delay: float) -> Iterator[tuple[Path, int] | None]:
    """lava-coordinator, with the configuration that it and LAVA's dispatchers read, and its port.

    :param delay: seconds between two polls.
    """
    program = _path("usr/bin/lava-coordinator")
    if program is None:
        yield None
        return
    (port,) = free_ports(1)
    configuration = folder / "coordinator.conf"
    configuration.write_text(
        json.dumps(
            {"port": port, "blocksize": 4096, "poll_delay": delay, "coordinator_hostname": "localhost"}
        )
    )
    command = [PYTHON, str(program), "--logfile", f"{folder}/coordinator.log", "--config", str(configuration)]
    with serving(command, port, _environ(folder)):
        yield configuration, port


@contextmanager
def serving(command: Sequence[str], port: int, environ: Mapping[str, str]) -> Iterator[None]:
    """A coordinator that runs, and answers on its port."""
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                # A connection without a request would be the end of it.
                with socket.create_connection(("127.0.0.1", port)) as probe:
                    probe.sendall(b"00000002{}")
                    probe.shutdown(socket.SHUT_WR)
                    probe.recv(100)
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def scripts(lava: Path, folder: Path, shell: str = "/bin/sh") -> Path:
    """LAVA's commands for devices, made ready to run as its dispatcher does, with that shell; in a new folder.

    A device's name is what LAVABOX_DEVICE says.

    :param lava: as `dispatcher` returns it.
    """
    folder.mkdir()
    # What LAVA puts in front of the scripts that speak to other devices.
    settings = (
        f"LAVA_TEST_BIN={folder}\nLAVA_MULTI_NODE_CACHE={folder}/cache\nLAVA_MULTI_NODE_DEBUG=yes\n"
        "LAVA_HOSTNAME=$LAVABOX_DEVICE\n"
    )
    for source, head in (("lava_test_shell", ""), ("lava_test_shell/multi_node", settings)):
        for script in (lava / source).glob("lava-*"):
            copy = folder / script.name
            copy.write_text(f"#!{shell}\n\n{head}{script.read_text()}")
            copy.chmod(0o755)
    return folder


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one device's console has carried: characters from and to the device, and all that it printed.

    :param seconds: from the first output to the end; and the processor time of LAVA's process for it.
    :param requests: how many of the device's requests LAVA says that it has carried out.
    """

    up: int
    down: int
    seconds: float
    processor: float
    requests: int
    log: str


def run(folder: Path, commands: Mapping[str, str], delay: float) -> dict[str, Outcome] | None:
    """Run shell commands on a device each, under LAVA's test action and its coordinator.

    :param folder: a new one, for what the run leaves.
    :param commands: by the devices' names; LAVA's commands are in their PATH.
    :param delay: seconds between two polls of the coordinator.
    :returns: by device; None where LAVA is not installed, or has not come to an end.
    """
    lava = dispatcher()
    folder.mkdir()
    with coordinator(folder, delay) as configured:
        if lava is None or configured is None:
            return None
        path = scripts(lava, folder / "bin")
        devices = {}
        for name, command in commands.items():
            devices[name] = str(folder / f"{name}.sh")
            Path(devices[name]).write_text(f"export LAVABOX_DEVICE={name} PATH={path}:$PATH\n{command}\n")
        plan = folder / "plan.json"
        plan.write_text(
            json.dumps({"coordinator": str(configured[0]), "devices": devices, "seconds": PATIENCE})
        )
        errors = folder / "stderr"
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                [PYTHON, ROOT / "bench" / "lavajob.py", plan], env=_environ(folder), start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip
        with suppress(subprocess.TimeoutExpired):
            try:
                process.wait(PATIENCE)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    outcomes = {}
    for name in commands:
        figures = folder / f"{name}.json"
        if not figures.exists():
            print(f"LAVA's side of {name} has not ended well: {errors.read_text()[-500:]}", file=sys.stderr)
            return None
        log, job = ((folder / f"{name}.{ending}").read_text() for ending in ("log", "yaml"))
        requests = len(re.findall(r'"case": "multinode-.*"result": "pass"', job))
        outcomes[name] = Outcome(**json.loads(figures.read_text()), requests=requests, log=log)
    return outcomes
