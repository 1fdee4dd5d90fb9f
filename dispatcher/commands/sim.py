# SPDX-License-Identifier: MIT
"""`lavabox sim`: a multi-device test on simulated devices, on this machine."""

import argparse
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.errors import SetupError, UsageError
from dispatcher.host import groupoptions
from dispatcher.host.deadwatch import SimulatorWatch
from dispatcher.host.options import HOW_TO_WRITE, positive_duration
from dispatcher.host.run import add_arguments, run_group
from dispatcher.host.stopsignals import undisturbed
from dispatcher.host.terminalrun import Device
from dispatcher.jobs import simulation as jobs
from dispatcher.simulator.board import Workshop
from dispatcher.simulator.box import install_box
from dispatcher.simulator.faults import Faults, in_words, parse_faults
from dispatcher.simulator.isolation import running_lab
from dispatcher.simulator.judge import Leader, doings, idle_devices
from dispatcher.simulator.plan import Option, check_interpreter
from dispatcher.simulator.privatetmp import PrivateTmp, probe
from dispatcher.view.display import Display
from dispatcher.view.interactive.choice import display_on_terminal, require_terminal
from dispatcher.view.interactive.shells import fill_shells, with_shells

SUMMARY = "run a multi-device test on simulated devices"

DESCRIPTION = """\
Run a multi-device test on this machine. Each device is a shell on a pty of its own, its
console, with the lava-* commands in its PATH. A command that begins with the name of a
script runs in the folder of that script. FILE is a LAVA job, which says what devices there
are and what they do; or a test definition, which the roles without a command run.
"""

EPILOGUE = """\
exit status: 0 when the scripts of all devices and their tests succeeded; 1 when one did not,
a test run ended early, the devices came to a dead end (each waits for what none can send),
it timed out, or the run could not begin; 2 usage, or the job can't be read; 130 when
interrupted.

examples:
  lavabox sim --role server=./run-server.sh --role 'client*2=./run-client.sh'
  lavabox sim --device panda01:client='lava-sync start; echo hello' --device hb01:server='lava-sync start'
  lavabox sim job.yaml --repo https://example.org/tests.git=../tests
  lavabox sim ping.yaml --role 'client*2' --param COUNT=3 --role server='lava-wait done'
  lavabox sim --isolate --role 'a*2=lava-network broadcast eth0; lava-network collect; lava-network hosts /etc/hosts'
  lavabox sim --interactive --role a --role b
  lavabox sim --baud 9600 --timeout 60 --log-dir logs --role 'peer*4=./run-peer.sh'
"""

# Characters that mean something in PATH, or among the options of an overlay.
_UNFIT = frozenset(':,\\\n"')
_SLOWEST, _FASTEST = 50, 10_000_000


class _Collect(argparse.Action):
    """Keeps --role and --device in one list: their order is the order of the devices."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        namespace.devices = [*namespace.devices, (Option(self.option_strings[0]), values)]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.set_defaults(devices=[])
    jobs.add_arguments(parser)
    parser.add_argument(
        "--role",
        metavar="ROLE[*COUNT][=COMMAND]",
        action=_Collect,
        help="COUNT devices of this role (default: 1), called ROLE-1, ROLE-2, ... Each runs COMMAND; if that is the "
        "name of a .yaml file, that test definition; without COMMAND, FILE",
    )
    parser.add_argument(
        "--device",
        metavar="NAME:ROLE=COMMAND",
        action=_Collect,
        help="one device, called NAME; it runs COMMAND",
    )
    parser.add_argument(
        "--shell",
        metavar="SHELL",
        help="what runs the commands (default: /bin/sh); its first word also runs the definitions of a job",
    )
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=positive_duration,
        help=f"end the whole run after this time: {HOW_TO_WRITE}",
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="end the run as soon as a result or a device has failed"
    )
    parser.add_argument(
        "--baud", metavar="N", type=int, help="make the consoles as slow as serial lines of N baud"
    )
    parser.add_argument(
        "--faults",
        metavar="NAME=NUMBER,...",
        help="make the consoles as bad as real lines: printk=20 (kernel lines a second, cutting what the "
        "device writes), stamps=0 (those without time stamps), drop=1e-4, flip=1e-4, double=1e-4 (probability "
        "for each byte, in both directions), delay=0.5 (pauses a second), reboot=0.05 (reboots a second)",
    )
    parser.add_argument("--seed", metavar="N", type=int, help="make random choices the same in every run")
    parser.add_argument(
        "--box", metavar="FILE", type=Path, help="the box for the devices (default: a new one is built)"
    )
    parser.add_argument(
        "--setup",
        metavar="SCRIPT",
        type=Path,
        help="what each device runs first, at each boot; if it fails, the device ends",
    )
    parser.add_argument(
        "--path",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="put DIR first in the PATH of the devices, such as one with stand-ins for programs that this "
        "machine does not have",
    )
    parser.add_argument("--shared-tmp", action="store_true", help="do not give each device a /tmp of its own")
    parser.add_argument(
        "--isolate",
        action="store_true",
        help="give each device an eth0 on a bridge that leads nowhere else, a hostname, process ids, a /tmp, and "
        "a view of this machine's files in which everything can be changed and nothing is kept",
    )
    parser.add_argument(
        "--image",
        metavar="DIR",
        type=Path,
        help="--isolate, with DIR as the root folder of the devices; it must have /bin/sh and python3",
    )
    parser.add_argument(
        "--interactive",
        metavar="DEVICE",
        nargs="?",
        const="",
        help="open a shell on DEVICE (default: the first one without a command) for you to type to; devices "
        "without a command, as in --role a, get one too. With tmux each device has a window; without it, a key "
        "switches to the next device",
    )
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the test; returns the exit status. Raises UsageError or SetupError."""
    _check(arguments)
    isolate = arguments.isolate or arguments.image is not None
    shell = _shell("/bin/sh" if arguments.shell is None else arguments.shell, arguments.image)
    invoked_in = Path.cwd()
    setup, paths = _setup(arguments.setup), [_program_folder(path) for path in arguments.path]
    interactive = arguments.interactive is not None
    if interactive and arguments.file is None:
        arguments.devices = with_shells(arguments.devices)
    simulation = jobs.read_simulation(arguments, invoked_in)
    chosen, shells = "", set[str]()
    if interactive:
        simulation.devices, chosen, shells = fill_shells(simulation.devices, arguments.interactive, shell)
        for name in shells:
            simulation.roles.pop(name, None)
    faults = _faults(arguments.faults)
    # One that was made up is told, so that the faults can be had again.
    fault_seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    messages = [] if arguments.seed is None and faults is None else [f"seed {fault_seed}"]
    if faults is not None:
        messages.append(f"faults {in_words(faults)}")
    messages += simulation.messages
    with ExitStack() as stack:
        state = stack.enter_context(_state_folder())
        commands = install_box(arguments.box, state)
        lab = None
        if isolate:
            names = [device.name for device in simulation.devices]
            visible = [invoked_in, (commands / "lava-self").resolve().parent, *paths]
            visible += [] if setup is None else [setup.parent]
            visible += [Path(shell[0]).parent] if arguments.image is None else []
            lab = stack.enter_context(running_lab(names, state, arguments.image, shell[0], visible))
        private_tmp = None if isolate or arguments.shared_tmp else _private_tmp(state, messages)
        workshop = Workshop(
            run=secrets.token_hex(8),
            state=state,
            invoked_in=invoked_in,
            commands=commands,
            shell=shell,
            baud=arguments.baud,
            private_tmp=private_tmp,
            lab=lab,
            faults=faults,
            fault_seed=fault_seed,
            setup=setup,
            paths=paths,
        )
        # Whether there is bash, which definitions run with on most systems, is a matter of the image.
        plain = arguments.image is not None and not (arguments.image / "bin" / "bash").exists()
        laid_out = simulation.lay_out(
            workshop.devices, shell[0] if arguments.shell or plain else None, link=workshop.layered
        )
        devices = [
            Device(device.name, device.role, workshop.board(device), interactive=device.name in shells)
            for device in laid_out.devices
        ]
        display = (
            stack.enter_context(display_on_terminal(chosen, state, len(devices) > 1))
            if interactive
            else Display
        )
        return run_group(
            devices,
            arguments,
            messages,
            must_end=True,
            timeout=_shorter(arguments.timeout, simulation.timeout),
            fail_fast=arguments.fail_fast,
            seed=arguments.seed,
            rules=laid_out.rules,
            patterns=laid_out.patterns,
            display_class=display,
            watch=lambda engine: SimulatorWatch(
                engine,
                lambda waits: idle_devices(_leaders(devices), waits, servers=not isolate),
                lambda: doings(_leaders(devices)),
                shared=groupoptions.is_shared(arguments),
            ),
        )


def _shorter(*timeouts: float | None) -> float | None:
    return min((timeout for timeout in timeouts if timeout is not None), default=None)


def _leaders(devices: Sequence[Device]) -> dict[str, Leader]:
    """What is known of the processes of the devices that run; of none where somebody may type something."""
    consoles = [(device.name, device.console) for device in devices if not device.interactive]
    return {
        name: Leader(console.pid, console.mark)
        for name, console in consoles
        if isinstance(console, PtyProcess) and console.pid is not None
    }


def _check(arguments: argparse.Namespace) -> None:
    baud = arguments.baud
    if baud is not None and not _SLOWEST <= baud <= _FASTEST:
        raise UsageError(f"--baud {baud}: it must be a number from {_SLOWEST} to {_FASTEST}")
    if arguments.interactive is not None:
        if arguments.interactive.endswith((".yaml", ".yml")):
            raise UsageError(
                f"--interactive {arguments.interactive}: this is a file, not a device; put it before the options"
            )
        if arguments.timestamps:
            raise UsageError("--timestamps and --interactive can't be used together")
        require_terminal()
    if arguments.shared_tmp and (arguments.isolate or arguments.image is not None):
        raise UsageError("--shared-tmp and --isolate can't be used together")


def _faults(text: str | None) -> Faults | None:
    if text is None:
        return None
    try:
        return parse_faults(text)
    except UsageError as error:
        raise UsageError(f"--faults {text!r:.80}: {error}") from None


def _shell(text: str, image: Path | None) -> Sequence[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--shell {text!r}: {error}") from None
    if image is not None and words:
        # Looked for in there, later.
        return words
    found = shutil.which(words[0]) if words else None
    if found is None:
        raise UsageError(f"--shell {text!r}: there is no such program")
    return [os.path.abspath(found), *words[1:]]


def _setup(script: Path | None) -> Path | None:
    if script is None:
        return None
    if not script.is_file():
        raise UsageError(f"--setup {script}: no such file")
    if not os.access(script, os.X_OK):
        raise UsageError(f"--setup {script}: it is not executable; run `chmod +x {script}`")
    try:
        check_interpreter(script, str(script))
    except UsageError as error:
        raise UsageError(f"--setup {error}") from None
    return script.absolute()


def _program_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError(f"--path {folder}: no such folder")
    if os.pathsep in str(folder.absolute()):
        raise UsageError(f"--path {folder}: a folder with '{os.pathsep}' in its name can't be in PATH")
    return folder.absolute()


@contextmanager
def _state_folder() -> Iterator[Path]:
    try:
        # The folder will be in PATH, and in the options of mounts.
        fitting = _UNFIT.isdisjoint(os.path.realpath(tempfile.gettempdir()))
        state = Path(tempfile.mkdtemp(prefix="lavabox-", dir=None if fitting else "/tmp"))
    except OSError as error:
        raise SetupError(f"no folder for temporary files: {error}") from error
    try:
        # A test may change to another user, who needs the commands as well.
        state.chmod(0o755)
        yield state.resolve()
    finally:
        with undisturbed():
            shutil.rmtree(state, ignore_errors=True)


def _private_tmp(state: Path, messages: list[str]) -> PrivateTmp | None:
    folder = state / "private"
    folder.mkdir()
    private_tmp = probe(folder, os.environ)
    if isinstance(private_tmp, PrivateTmp):
        return private_tmp
    messages.append(
        f"the devices share this machine's /tmp, as mount namespaces are not permitted ({private_tmp}). "
        "Each has cache files of its own: scripts must read $LAVA_MULTI_NODE_CACHE and "
        "$LAVA_MULTI_NODE_NETWORK_CACHE, not /tmp/lava_multi_node_cache.txt"
    )
    return None
