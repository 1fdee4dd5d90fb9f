# SPDX-License-Identifier: MIT
"""Who a device is, told by LAVA's own job process above us.

LAVA starts the program that reaches a console from `lava-run`, whose standard output is JOBDIR/stdout. Beside that
lie job.yaml, the job as this device has it, and device.yaml, its device dictionary.
"""

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatcher.files import open_regular, read_text
from dispatcher.jobs.source import MAX_BYTES, JobError, Remarks, parse, plain

# Where a worker is told which coordinator LAVA's dispatchers ask.
COORDINATOR_FILE = Path("/etc/lava-coordinator/lava-coordinator.conf")
# Processes between us and lava-run: a shell, a wrapper.
_GENERATIONS = 8
# The id of the job, where the environment does not say it: in the title or the arguments of lava-run.
_JOB_ID = re.compile(r"\[job: ([^\]\s]+)\]|--job-id[=\0]([^\0]+)")
_MULTINODE = "lava-multinode"
# What a device's role is where its job knows none.
NO_ROLE = "device"


@dataclass(frozen=True, slots=True)
class LavaJob:
    """One job of LAVA.

    :param hostname: of the device.
    :param group: LAVA's name of the group; None if the job is not a multi-node job.
    :param roles: of all devices of the group, by the ids of their jobs.
    :param size: of the group.
    """

    job_id: str
    hostname: str
    role: str
    group: str | None
    roles: Mapping[str, str]
    size: int


def find_job(pid: int, environment: Mapping[str, str]) -> LavaJob | None:
    """The job for which the process `pid` or one above it works; None if there is none.

    :param environment: our own.
    """
    for _ in range(_GENERATIONS):
        if pid <= 1:
            break
        directory = _job_directory(pid)
        if directory is not None:
            return read_job(directory, environment.get("LAVA_JOB_ID") or _job_id(pid) or directory.name)
        pid = _parent(pid)
    return None


def read_job(directory: Path, job_id: str) -> LavaJob | None:
    """The job whose files are there; None if they are not, or are not LAVA's."""
    job = _table(directory / "job.yaml")
    if not job:
        return None
    device = _table(directory / "device.yaml")
    protocol = job.get("protocols")
    multinode = protocol.get(_MULTINODE) if isinstance(protocol, dict) else None
    if not isinstance(multinode, dict):
        multinode = {}
    roles = multinode.get("roles")
    # As it was submitted, `roles` says something else of each role; as a device has it, each job's role.
    names = {
        str(name): role
        for name, role in (roles.items() if isinstance(roles, dict) else ())
        if isinstance(role, str)
    }
    group, size = multinode.get("target_group"), multinode.get("group_size")
    return LavaJob(
        job_id,
        str(device.get("hostname") or job_id),
        str(multinode.get("role") or NO_ROLE),
        None if group is None else str(group),
        names,
        size if isinstance(size, int) and size > 0 else max(1, len(names)),
    )


def coordinator_is_here(file: Path = COORDINATOR_FILE) -> bool:
    """Whether LAVA's dispatchers on this machine ask a coordinator that also runs on it, as far as that is said."""
    try:
        host = json.loads(read_text(file))["coordinator_hostname"]
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True
    return any(map(_is_ours, addresses))


def _is_ours(address: tuple[Any, ...]) -> bool:
    """Whether this machine has the address, one of `getaddrinfo`."""
    family, kind, protocol, _, name = address
    try:
        with socket.socket(family, kind, protocol) as tried:
            tried.bind(name)
    except OSError:
        return False
    return True


def _job_directory(pid: int) -> Path | None:
    try:
        path = Path(os.readlink(f"/proc/{pid}/fd/1"))
    except OSError:
        return None
    if path.name == "stdout" and (path.parent / "job.yaml").is_file():
        return path.parent
    return None


def _job_id(pid: int) -> str | None:
    try:
        match = _JOB_ID.search(Path(f"/proc/{pid}/cmdline").read_text(errors="replace"))
    except OSError:
        return None
    return None if match is None else match[1] or match[2]


def _parent(pid: int) -> int:
    try:
        # Behind the name, which may have spaces and brackets in it.
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _table(path: Path) -> dict[str, Any]:
    try:
        with open_regular(path) as file:
            # LAVA has tags of its own in device files; what they say is of no concern here.
            value = plain(parse(file.read(MAX_BYTES + 1), str(path), Remarks(), any_tags=True))
    except (OSError, JobError):
        return {}
    return value if isinstance(value, dict) else {}
