# SPDX-License-Identifier: MIT
"""Devices under LAVA's own test action, each in a process of its own: `python3 lavajob.py PLAN.json`.

Run by bench/lavaprograms.py with the Python that LAVA's modules are installed for. All that handles the console is
LAVA's: it starts the device on a pty, reads and logs what it prints, finds requests in it, asks the coordinator and types
the answer. What a job does before its test (deployment, boot, overlay) is left out: the device begins with its script.

For each device DEVICE.log gets what its console printed, DEVICE.yaml LAVA's log of the job, and DEVICE.json the
figures of bench/lavaprograms.py's `Outcome`.
"""

import json
import logging
import os
import sys
import time
import traceback
from types import SimpleNamespace
from typing import Any

from lava_common.exceptions import ConnectionClosedError
from lava_common.log import YAMLLogger
from lava_common.timeout import Timeout
from lava_dispatcher.actions.test.multinode import MultinodeTestAction
from lava_dispatcher.protocols.multinode import MultinodeProtocol
from lava_dispatcher.shell import ShellCommand, ShellSession

# Characters that LAVA reads at once: `spawn_maxread` of its device types.
READ = 4092


def run(folder: str, name: str, plan: dict[str, Any]) -> None:
    """One device, from its start to the end of its script."""
    logger = logging.getLogger("dispatcher")
    logger.addHandler(logging.FileHandler(f"{folder}/{name}.yaml"))
    action = _action(name, plan)
    command = ShellCommand(
        f"/bin/sh {plan['devices'][name]}", Timeout("bench", plan["seconds"]), logger=logger, window=READ
    )
    figures = _count(command, f"{folder}/{name}.log")
    action.signal_director.connection = ShellSession(action.job, command)
    try:
        while action._keep_running(command, plan["seconds"], "#"):
            pass
    except ConnectionClosedError:
        # The script is over.
        figures["seconds"] = time.monotonic() - figures.pop("first")
        figures["processor"] = time.process_time() - figures.pop("first_processor")
        with open(f"{folder}/{name}.json", "w") as file:
            json.dump(figures, file)


def _action(name: str, plan: dict[str, Any]) -> Any:
    """LAVA's test action, as a job would have made it ready for its first test definition."""
    action = MultinodeTestAction()
    job = SimpleNamespace(device={}, context={}, protocols=[], parameters={})
    parameters = {"role": "t", "target_group": "bench", "group_size": len(plan["devices"])}
    protocol = MultinodeProtocol({"protocols": {"lava-multinode": parameters}}, name)
    protocol.debug_setup()
    protocol.settings = protocol.read_settings(plan["coordinator"])
    job.protocols.append(protocol)
    protocol.initialise_group()
    action.job = job
    action.populate({})
    action._reset_patterns()
    action.signal_director.setup({"lava-multinode": {"timeout": {"seconds": plan["seconds"]}}})
    # As behind the signal that begins a test definition.
    action.definition, action.signal_director.test_uuid = "bench", "1"
    return action


def _count(command: Any, log: str) -> dict[str, float]:
    """Count and keep what goes over the console from now on."""
    figures: dict[str, float] = {"up": 0, "down": 0}
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    read, send = command.read_nonblocking, command.send

    def counted_read(*arguments: Any, **options: Any) -> str:
        text = str(read(*arguments, **options))
        figures.setdefault("first", time.monotonic())
        figures.setdefault("first_processor", time.process_time())
        figures["up"] += len(text)
        os.write(descriptor, text.encode())
        return text

    def counted_send(*arguments: Any, **options: Any) -> int:
        count = int(send(*arguments, **options))
        figures["down"] += count
        return count

    command.read_nonblocking, command.send = counted_read, counted_send
    return figures


def main() -> None:
    """Run all devices of the plan, and end when all have ended."""
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    folder = os.path.dirname(sys.argv[1])
    logging.setLoggerClass(YAMLLogger)
    processes = []
    # LAVA has a process for each job; here they share what has been imported.
    for name in plan["devices"]:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                run(folder, name, plan)
                status = 0
            except BaseException:
                # Nobody else prints it.
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        processes.append(pid)
    for pid in processes:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
