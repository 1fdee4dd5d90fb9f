# SPDX-License-Identifier: MIT
"""A multi-device job as it is read from its files: data without behaviour.

job file --reader--> Job --> scripts for the simulated devices (`lavabox sim JOB.yaml`)
                         --> the expected flow table, and what is wrong (`lavabox flow --plan`)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands, for messages; lines count from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True, slots=True)
class Step:
    """One item of `run: steps` or `install: steps`: shell text, perhaps of several lines."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder of this machine; with a revision (a commit), the clone there as it was then."""

    folder: Path
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """A test definition, with the parameters that the job gives it.

    `parameters` are shell variables: the definition's own defaults first, then the job's. `checkout` is
    what its steps run in a copy of (the repository that it comes from; None for an inline one).
    `repositories` are what `install: git-repos` puts into it, each as a folder of the name given. `pattern` and `fixups` are those of `parse`: a regular expression
    for results in the output, and what its words for results mean.
    """

    name: str
    place: Place
    parameters: tuple[tuple[str, str], ...] = ()
    install: tuple[Step, ...] = ()
    steps: tuple[Step, ...] = ()
    checkout: Checkout | None = None
    pattern: str | None = None
    fixups: Mapping[str, str] = field(default_factory=dict)
    repositories: tuple[tuple[str, Checkout], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A protocol request of an action: what LAVA's dispatcher does for the device before the action.

    `command` is lava-send, lava-wait, lava-wait-all or lava-sync; `timeout` is in seconds.
    """

    command: str
    message_id: str
    place: Place
    role: str | None = None
    data: tuple[tuple[str, str], ...] = ()
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class TestAction:
    """One `test` action of a role, or the requests of an action that is itself not carried out.

    `timeout` (seconds) bounds all its definitions together.
    """

    place: Place
    requests: tuple[Request, ...] = ()
    definitions: tuple[Definition, ...] = ()
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """A role: `count` devices, which carry out `actions` in order.

    `wait_timeout` (seconds) bounds each wait. Devices of a role that has `starts_after` begin when all
    devices of that other role have sent `lava_start`. When a device of an essential role fails, the
    whole job ends. `distribution` is the `os` that the job would deploy, `environment` what the devices'
    shells have in theirs.
    """

    name: str
    count: int
    place: Place
    actions: tuple[TestAction, ...] = ()
    wait_timeout: float | None = None
    starts_after: str | None = None
    essential: bool = False
    distribution: str | None = None
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """Something in a job that is not honoured here, to be told once; `hides_calls`: it may have made some."""

    place: Place
    sentence: str
    hides_calls: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A whole job; `timeout` is in seconds."""

    name: str
    place: Place
    roles: tuple[Role, ...]
    timeout: float | None = None
    remarks: tuple[Remark, ...] = ()
