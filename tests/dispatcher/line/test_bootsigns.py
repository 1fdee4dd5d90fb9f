# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from dispatcher.line.bootsigns import MAX_SIGN, BootSigns

SIGNS = {
    "U-Boot 2023.01 (Jan 01 2023 - 00:00:00 +0000)": "loader",
    "U-Boot SPL 2024.04-rc1 (Mar 01 2024)": "loader",
    "Hit any key to stop autoboot:  3": "loader",
    "Welcome to GRUB!": "loader",
    "barebox 2023.10.0 #1 Mon": "loader",
    "coreboot-4.19 Mon Jan bootblock starting": "loader",
    "UEFI firmware (version edk2-stable202302 built at": "loader",
    "BdsDxe: loading Boot0001": "loader",
    "SeaBIOS (version 1.16.2-debian-1.16.2-1)": "loader",
    "OpenSBI v1.2": "loader",
    "NOTICE:  BL31: v2.8(release)": "loader",
    "Starting kernel ...": "loader",
    "[NOTE ]  coreboot-4.19 Thu Jan 1 bootblock starting": "loader",
    "Booting from Hard Disk...": "loader",
    "iPXE (https://ipxe.org) 00:02.0 C000 PCI2.10": "loader",
    "ISOLINUX 6.04 20200816": "loader",
    "Loading Linux 6.1.0-13-amd64 ...": "loader",
    "RedBoot(tm) bootstrap and debug environment [ROMRAM]": "loader",
    "CFE version 1.0.38-112.118 for BCM963268": "loader",
    "Fastboot:  Press any key to abort boot": "loader",
    " Petitboot (v1.13)": "loader",
    "Raspberry Pi Bootcode": "loader",
    "RPi: BOOTLOADER release VERSION:30de0ba5": "loader",
    "I/TC: OP-TEE version: 3.19.0": "loader",
    "Format: Log Type - Time(microsec) - Message": "loader",
    "DDR Version V1.15 20221101": "loader",
    "GXM:BL1:dc8b51:76f1a5;FEAT:BD182A0:0;POC:0": "loader",
    "[0000.050] [L4T TegraBoot] (version 00.00.2018)": "loader",
    "Press DEL to enter SETUP": "loader",
    "resetting ...": "reset",
    "[    0.000000] Booting Linux on physical CPU 0x0": "kernel",
    "[    0.000000][    T0] Linux version 6.6.0": "kernel",
    "Linux version 6.1.0 (builder)": "kernel",
    "[   12.345678] Kernel panic - not syncing: Fatal exception": "crash",
    "[   12.345678][  T123] Kernel panic - not syncing: Fatal exception": "crash",
    "<0>[   12.345678] ---[ end Kernel panic - not syncing: x ]---": "crash",
    "Kernel panic - not syncing: sysrq triggered crash": "crash",
    "[   12.345678] Unable to handle kernel NULL pointer dereference": "crash",
    "[   12.345678] sysrq: Resetting": "reset",
    "[   12.345678] reboot: Restarting system": "reset",
    "[   12.345678] watchdog: watchdog0: watchdog did not stop!": "reset",
    "[   12.345678] systemd-shutdown[1]: Rebooting.": "reset",
}
PLAIN = (
    b"root@panda:~# cat notes\r\nU-Boot is a boot loader\r\nsee Linux version of it\r\n"
    b"[    0.123456] not at zero\r\n[   10.000000] ten\r\nno Kernel panic - not syncing here\r\n"
    b"\x1b[31mred\x1b[0m \x1b]0;Linux version 6\x07\r\n"
)


def kinds(*chunks: bytes) -> list[str]:
    signs = BootSigns()
    return [sign.kind for chunk in chunks for sign in signs.receive_data(chunk)]


@pytest.mark.parametrize("line", SIGNS)
def test_signs(line: str) -> None:
    kind = SIGNS[line]
    data = b"hello\r\n" + line.encode() + b"\r\n"
    assert kinds(data) == [kind]
    assert kinds(line.encode()) == [kind], "a console that begins with it"
    assert set(kinds(*(data[i : i + 1] for i in range(len(data))))) == {kind}
    for cut in range(len(data)):
        assert set(kinds(data[:cut], data[cut:])) == {kind}, cut


def test_a_banner_behind_cursor_keys() -> None:
    assert kinds(b"\x1b[2J\x1b[1;1H\x1b[0m   GNU GRUB  version 2.06") == ["loader"]


@pytest.mark.parametrize("size", [1, 5, 64, 1000])
def test_other_output_is_none(size: int) -> None:
    assert kinds(*(PLAIN[i : i + size] for i in range(0, len(PLAIN), size))) == []


def test_a_sign_is_told_once() -> None:
    assert kinds(b"x\nU-Boot 2023", b".01", b" (Jan)\r\n", b"\n") == ["loader"]


@pytest.mark.parametrize("before", [b"", b"x" * 1000, b"hello\n" * 100])
def test_a_sign_that_begins_in_what_is_skipped(before: bytes) -> None:
    data = b"\n[    1.234567] Kernel panic - not syncing"
    for cut in range(len(data)):
        signs = BootSigns()
        signs.skip(before + data[:cut])
        assert [sign.kind for sign in signs.receive_data(data[cut:])] == ["crash"], cut


def test_what_is_skipped_is_not_told() -> None:
    for before in (b"", b"x" * 1000):
        signs = BootSigns()
        signs.skip(before + b"\nKernel panic - not syncing\n")
        assert signs.receive_data(b"hello\n") == []
    signs = BootSigns()
    signs.skip(b"\n")
    signs.skip(b"x" * 1000 + b"Rebooting in " + b"1" * (MAX_SIGN - 13))
    assert signs.receive_data(b"1 seconds\n") == [], "the middle of a line"


def test_what_is_kept_is_bounded() -> None:
    signs = BootSigns()
    for data in (b"\n" * 1000, b"\n" + b"[" * 1000, b"\x1b[" + b"1;" * 1000):
        for _ in range(10):
            signs.receive_data(data)
            assert len(signs._held) <= MAX_SIGN
