# SPDX-License-Identifier: MIT
"""A guest: a kernel in qemu, on whose console commands are typed, and what that has printed."""

import asyncio
import re
import time
from pathlib import Path

from tests.kernel.line import Line

QEMU = "qemu-system-x86_64"
# Seconds. A guest under emulation is slow, and the machine may have more to do.
PATIENCE = 60.0
# Of what is quick to emulate, with a source of randomness.
_CPU = "qemu64,+rdrand"
# Emulated, the time stamp counter is no clock to go by, and protection from other guests is slow. Messages
# that processes write this often the kernel would drop, and not print all the others.
_ARGUMENTS = "tsc=unstable mitigations=off printk.devkmsg=on ignore_loglevel"
# Seconds between two looks at a log.
_LOOK = 0.01

_STAMPED = re.compile(rb"\[ *\d+\.\d{6}\] [^\r\n]*\r\n")
# Ours, and those that a slow machine brings about.
_UNSTAMPED = re.compile(rb"(noise \d{6}|\d{6}-noise-|clocksource: |hrtimer: |rcu: |random: )[^\r\n]*\r\n")


class GuestError(Exception):
    """A guest did not do what it should; the text says what was waited for, and what came."""


def without_kernel_messages(output: bytes) -> bytes:
    """Console output as it would be if the kernel were silent."""
    return _UNSTAMPED.sub(b"", _STAMPED.sub(b"", output))


class Guest:
    """A guest. Its output is what the dispatcher has written to `log`, without kernel messages."""

    def __init__(self, name: str, line: Line, log: Path) -> None:
        self.name = name
        self.line = line
        self._log = log
        self._read = 0  # bytes of the log
        self._output = b""  # whole lines, from where `expect` has come to
        self._open = b""  # the last line, and whatever the kernel has begun in it

    async def start(self, kernel: Path, initramfs: Path, processors: int, arguments: str) -> None:
        """Start it; it is up when there is a prompt."""
        self._command = [
            *(QEMU, "-accel", "tcg", "-machine", "q35", "-cpu", _CPU, "-m", "256", "-smp", str(processors)),
            *("-bios", "qboot.rom", "-nodefaults", "-display", "none"),
            *("-chardev", f"socket,id=console,fd={self.line.guest_end}", "-serial", "chardev:console"),
            *("-kernel", str(kernel), "-initrd", str(initramfs)),
            *("-append", f"console=ttyS0,115200 {_ARGUMENTS} {arguments}"),
        ]
        await self._switch_on()

    async def power_cycle(self) -> None:
        """Switch it off and on again, whatever it is doing."""
        self._process.kill()
        await self._process.wait()
        await self._switch_on()

    async def _switch_on(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, pass_fds=[self.line.guest_end], stdin=asyncio.subprocess.DEVNULL
        )

    async def run(self, command: str, pattern: str, patience: float = PATIENCE) -> re.Match[bytes]:
        """Type a command at the prompt, and wait for this in its output, and the next prompt."""
        self.line.type(command + "\r")
        match = await self.expect(pattern, patience)
        await self.expect("ready> ", patience)
        return match

    async def expect(self, pattern: str, patience: float = PATIENCE) -> re.Match[bytes]:
        """Wait until this stands in the output behind what was expected before. Raises GuestError.

        The match's `string` is the output from there on.
        """
        expression = re.compile(pattern.encode())
        deadline = time.monotonic() + patience
        output = self._output + without_kernel_messages(self._open)
        while not (match := expression.search(output)):
            ended = self._process.returncode is not None
            if ended or time.monotonic() > deadline:
                when = "before it ended" if ended else f"in {patience:g} s"
                text = output[-1000:].decode(errors="backslashreplace")
                raise GuestError(f"{self.name} did not print {pattern!r} {when}, but:\n{text}")
            await asyncio.sleep(_LOOK)
            if self._take_new():
                output = self._output + without_kernel_messages(self._open)
        passed = match.end() - len(self._output)
        if passed > 0:
            # In the last line, before anything that the kernel may have begun there.
            self._open = self._open[passed:]
        self._output = self._output[match.end() :]
        return match

    def _take_new(self) -> bool:
        """Take what there is new in the log; returns whether there is anything."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        lines, line_end, self._open = (self._open + new).rpartition(b"\n")
        self._output += without_kernel_messages(lines + line_end)
        return bool(new)

    async def wait_for_end(self) -> None:
        """Wait until it has powered itself off, and all that it printed has been passed on."""
        async with asyncio.timeout(PATIENCE):
            await self._process.wait()
            await self.line.wait_for_end()

    async def close(self) -> None:
        """End it, in whatever state it is."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
