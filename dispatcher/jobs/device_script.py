# SPDX-License-Identifier: MIT
"""From a role's actions to the folder of a simulated device, in which the box's lava-test-runner does as LAVA's.

FOLDER/start.sh                  what the device does: requests, then a runner for each test action
FOLDER/N/lava-test-runner.conf   the definitions of test action N, in order
FOLDER/N/run/K_NAME/             run.sh, install.sh, uuid of definition number K
FOLDER/N/tests/K_NAME/           what its steps run in: a copy of its repository
"""

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dispatcher.errors import SetupError
from dispatcher.jobs.model import Checkout, Definition, Request, Role, TestAction
from dispatcher.jobs.rules import TimedAction
from dispatcher.line.textpatterns import Pattern

# Puts the files of a checkout into a folder, which does not exist yet. Raises SetupError.
Copy = Callable[[Checkout, Path], None]

# Systems on which LAVA's scripts run in bash.
_BASH = {"debian", "centos", "fedora", "archlinux", "arch", "slackware"}

# A position's variable in a step that hands a command on: it is that command's.
_POSITION = re.compile(r"\$(\d+)\b")


@dataclass(slots=True)
class DeviceScript:
    """What was laid out for one device: the shell command that it runs, and what to look for meanwhile."""

    command: str
    folder: Path
    actions: list[TimedAction] = field(default_factory=list)
    patterns: dict[str, Pattern] = field(default_factory=dict)


def shell_for(distribution: str | None) -> str:
    """The shell that LAVA would run definitions with on this system."""
    return "/bin/bash" if distribution in _BASH and Path("/bin/bash").exists() else "/bin/sh"


def lay_out(role: Role, folder: Path, shell: str, new_uuid: Callable[[], str], copy: Copy) -> DeviceScript:
    """Write the folder of one device of this role. Raises SetupError or OSError.

    :param folder: does not exist yet.
    :param shell: runs the definitions.
    :param copy: puts the files of a checkout into a folder, which does not exist yet.
    """
    folder.mkdir(parents=True)
    laid = DeviceScript(f"exec /bin/sh {shlex.quote(str(folder / 'start.sh'))}", folder)
    lines = ["# What the device does. A definition that fails does not keep the next one from running."]
    if role.wait_timeout is not None:
        lines.append(f"export LAVA_WAIT_TIMEOUT={role.wait_timeout:g}")
    lines += [f"export {name}={shlex.quote(value)}" for name, value in role.environment]
    failed = shlex.quote(str(folder / "failed"))
    lines += [
        "# After a reboot, the device goes on with the action that follows.",
        f"status=0; [ ! -e {failed} ] || status=1",
    ]
    if role.starts_after is not None:
        lines.append(
            _requested(Request("lava-wait-all", "lava_start", role.place, role.starts_after), folder)
        )
    number = 0
    for stage, action in enumerate(role.actions):
        # With nothing but the shell's own commands: the device may have stand-ins for all others.
        begun = shlex.quote(str(folder / f"begun-{stage}"))
        lines.append(f"if [ ! -e {begun} ]; then : >{begun} || exit")
        lines += [_requested(request, folder) for request in action.requests]
        if action.definitions:
            directory = folder / str(stage)
            _lay_out_action(action, directory, number, shell, new_uuid, copy, laid)
            number += len(action.definitions)
            lines += [
                f"lava-test-runner {shlex.quote(str(directory))} || {{ status=1; : >{failed}; }}",
                # As in LAVA, nothing more is done on a device where an installation has failed.
                f"for file in {shlex.quote(str(directory))}/results/*/install_return_code; do",
                '    [ ! -e "$file" ] || { read -r code <"$file"; [ "$code" = 0 ]; } || exit 1',
                "done",
            ]
        lines.append("fi")
    (folder / "start.sh").write_text("\n".join([*lines, "exit $status", ""]), errors="surrogateescape")
    return laid


def _requested(request: Request, folder: Path) -> str:
    """What LAVA's dispatcher would ask for: it leaves the device's cache file alone."""
    cache = shlex.quote(str(folder / "requested"))
    return f"LAVA_MULTI_NODE_CACHE={cache} {_command(request)} || exit"


def _command(request: Request) -> str:
    words = [request.command]
    if request.timeout is not None and request.command != "lava-send":
        words += ["--timeout", f"{request.timeout:g}"]
    words += ["--", request.message_id]
    if request.role is not None:
        words.append(request.role)
    words += [f"{key}={value}" for key, value in request.data]
    return shlex.join(words)


def _lay_out_action(
    action: TestAction,
    directory: Path,
    number: int,
    shell: str,
    new_uuid: Callable[[], str],
    copy: Copy,
    laid: DeviceScript,
) -> None:
    uuids, names = [], []
    for count, definition in enumerate(action.definitions, start=number):
        name, uuid = f"{count}_{definition.name}", new_uuid()
        run, tests = directory / "run" / name, directory / "tests" / name
        run.mkdir(parents=True)
        tests.parent.mkdir(exist_ok=True)
        if definition.checkout is None:
            tests.mkdir()
        else:
            copy(definition.checkout, tests)
        for destination, checkout in definition.repositories:
            if os.path.lexists(tests / destination):
                raise SetupError(
                    f"{definition.place}: git-repos can't put {checkout.folder} into {destination}, which is in the "
                    "repository already"
                )
            copy(checkout, tests / destination)
        (run / "uuid").write_text(f"{uuid}\n")
        script = run / "run.sh"
        _write(script, [f"#!{shell} -e", *_run_lines(definition, name, uuid, tests)])
        script.chmod(0o755)
        if definition.install:
            _write(run / "install.sh", _install_lines(definition, tests))
        if definition.pattern is not None:
            laid.patterns[uuid] = Pattern(definition.pattern, definition.fixups)
        uuids.append(uuid)
        names.append(f"run/{name}")
    _write(directory / "lava-test-runner.conf", names)
    if action.timeout is not None:
        laid.actions.append(TimedAction(uuids[0], uuids[-1], action.timeout))


def _run_lines(definition: Definition, name: str, uuid: str, tests: Path) -> list[str]:
    return [
        *_parameters(definition),
        f"export TESTRUN_ID={name}",
        f"UUID={uuid}",
        f"cd {shlex.quote(str(tests))}",
        "set -ex",
        *(_step(step.text) for step in definition.steps),
    ]


def _install_lines(definition: Definition, tests: Path) -> list[str]:
    return [
        *_parameters(definition),
        f"cd {shlex.quote(str(tests))}",
        *(step.text for step in definition.install),
    ]


def _parameters(definition: Definition) -> list[str]:
    return [f"{name}={shlex.quote(value)}" for name, value in definition.parameters]


def _step(text: str) -> str:
    if "--shell" in text or "--cmd" in text:
        return _POSITION.sub(r"\\$\1", text)
    return text


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join([*lines, ""]), errors="surrogateescape")
