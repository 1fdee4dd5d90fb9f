# SPDX-License-Identifier: MIT
"""Signs in a console's output that the device boots anew or is about to: then nobody may type.

A lease says that a command reads the console. If the device resets, the lease outlives the
command, and a reply would land in a boot loader, where any key stops the autoboot. So after a
sign no lease counts until a fresh frame shows that an agent is alive.

A sign may be false: a test may print `/proc/version`, or an old log. That costs one poll of the
commands that wait, and loses nothing; so rather one sign too many. A sign stands at the
beginning of a line, behind a kernel's time stamp if there is one, or where a boot loader has set
the cursor.

No I/O; what is kept is bounded, and the time is linear in the number of bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Bytes of a line that are looked at: time stamp, caller, the sign itself.
MAX_SIGN = 128

_KINDS = {
    "loader": (
        rb"U-Boot (?:SPL |TPL |20\d\d)",
        rb"Hit any key to stop autoboot",
        rb"Hit ctrl-c to stop autoboot",
        rb"Autoboot in \d",
        rb"Starting kernel \.\.\.",
        rb"Welcome to GRUB!",
        rb"GRUB loading",
        rb" *GNU GRUB ",
        rb"EFI stub: ",
        rb"barebox 20\d\d",
        rb"coreboot-",
        rb"[\[](?:NOTE|INFO|DEBUG) *\] +coreboot-",
        rb"Starting depthcharge",
        rb"UEFI firmware \(version",
        rb"BdsDxe: ",
        rb"Press (?:ESC|ESCAPE|F2|DEL|any key) ",
        rb"SeaBIOS \(version",
        rb"Booting from (?:Hard Disk|DVD/CD|ROM|Floppy)",
        rb"iPXE (?:\d|initialising|\(https?://)",
        rb"SYSLINUX \d",
        rb"ISOLINUX \d",
        rb"PXELINUX \d",
        rb"EXTLINUX \d",
        rb"Loading Linux \S{1,60} \.\.\.",
        rb"RedBoot\(tm\)",
        rb"CFE version \d",
        rb"Fastboot: ",
        rb" *Petitboot \(",
        rb"Raspberry Pi Bootcode",
        rb"RPi: BOOTLOADER ",
        rb"I/TC: OP-TEE version",
        # Of Qualcomm, Rockchip, Amlogic and Nvidia.
        rb"Format: Log Type - ",
        rb"DDR (?:Version )?V\d",
        rb"G[A-Z0-9]{2,3}:BL1?:[0-9a-f]{6}:",
        rb"[\[]0000\.\d{3}\] ",
        rb"OpenSBI v\d",
        rb"NOTICE: +(?:BL\d|Booting Trusted Firmware)",
    ),
    "kernel": (
        rb"Linux version \d",
        rb"Booting Linux on ",
        rb"Booting paravirtualized kernel",
    ),
    "crash": (
        rb"Kernel panic - not syncing",
        rb"---\[ end Kernel panic",
        rb"Unable to handle kernel ",
        rb"BUG: unable to handle ",
        rb"BUG: kernel NULL pointer",
        rb"Internal error: ",
        rb"Oops: ",
        rb"Oops\[#",
        rb"sysrq: (?:Trigger a crash|SysRq : Trigger a crash)",
    ),
    "reset": (
        rb"sysrq: (?:SysRq : )?Resetting",
        rb"reboot: (?:Restarting system|machine restart|Power down|System halted)",
        rb"Restarting system",
        rb"resetting \.\.\.",
        rb"Rebooting in \d+ seconds",
        rb"kexec_core: Starting new kernel",
        rb"watchdog: watchdog\d+: watchdog did not stop",
        rb"systemd-shutdown\[\d+\]: (?:Rebooting|Powering off)",
        rb"Requesting system (?:reboot|poweroff)",
        rb"The system (?:is going|will) (?:down for )?reboot",
    ),
}
# What they begin with, which decides most of the time.
_FIRST = bytes({sign.lstrip(b" *")[0] for signs in _KINDS.values() for sign in signs})
# At the beginning of a line; a kernel whose clock is at zero is a sign whatever it says.
_SIGN = rb"(?=[ %b])(?:%b)" % (
    re.escape(_FIRST),
    b"|".join(rb"(?P<%b>%b)" % (kind.encode(), b"|".join(signs)) for kind, signs in _KINDS.items()),
)
_AT_LINE = re.compile(
    rb"\n(?!\n)[\r\0]*+(?:<\d{1,3}>)?"
    rb"(?:(?P<zero>\[ {1,11}0\.000000\])|(?>(?:\[ {0,11}\d{1,8}\.\d{6}\](?:\[[^\]\n]{0,16}\])? )?)%b)" % _SIGN
)
# Where an escape sequence has set the cursor or the colours.
_AT_CURSOR = re.compile(rb"\x1b\[[\d;?]{0,16}[A-Za-z]%b" % _SIGN)


@dataclass(frozen=True, slots=True)
class Sign:
    """`kind` is "loader", "kernel", "crash" or "reset"; `text` is what was read, for a person."""

    kind: str
    text: str


class BootSigns:
    """Reads the output of one console."""

    def __init__(self) -> None:
        # The end of what came, as far as a sign may begin in it. Before the first byte a line begins.
        self._held = b"\n"

    def receive_data(self, data: bytes) -> list[Sign]:
        """Take output in any chunking; returns the signs that are whole in it, the first of each kind."""
        data = self._held + data
        found: dict[str, Sign] = {}
        read = 0
        for pattern in (_AT_LINE, _AT_CURSOR):
            for match in pattern.finditer(data):
                kind = "kernel" if match.lastgroup == "zero" else match.lastgroup or ""
                text = match.group().lstrip().decode(errors="replace")
                found.setdefault(kind, Sign(kind, text))
                read = max(read, match.end())
        self._held = _last_line(data, max(read, len(data) - MAX_SIGN))
        return list(found.values())

    def skip(self, data: bytes) -> None:
        """Take output whose signs are of no interest, at the cost of its end, where one may begin."""
        self.receive_data(data[-MAX_SIGN:])


def _last_line(data: bytes, position: int) -> bytes:
    """What may become a sign: from the first line or sequence on that begins behind `position`."""
    starts = [start for start in (data.find(b"\n", position), data.find(b"\x1b", position)) if start >= 0]
    return data[min(starts) :] if starts else b""
