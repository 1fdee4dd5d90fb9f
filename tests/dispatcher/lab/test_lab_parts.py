# SPDX-License-Identifier: MIT
"""Parts of a served lab: its logs, telnet, the escape key, the figures, what systemd is told."""

import asyncio
import os
import resource
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.commands.console import Keys
from dispatcher.errors import SetupError, UsageError
from dispatcher.grouplog import GroupLogError
from dispatcher.host import groups as groups_module
from dispatcher.host.groups import GroupLogs, Groups
from dispatcher.host.listening import address_text, parse_address
from dispatcher.host.systemd import notify
from dispatcher.lab import lab as lab_module
from dispatcher.lab.config import DeviceConfig, LabConfig
from dispatcher.lab.control import call
from dispatcher.lab.devicelog import DeviceLog
from dispatcher.lab.lab import Lab
from dispatcher.lab.offers import TelnetReader
from tests.dispatcher.fakeservers import Servers


def log(directory: Path, told: list[str], size: int = 100, keep: int = 2) -> DeviceLog:
    return DeviceLog(directory, "d", size, keep, 0.0, told.append)


def test_logs_are_put_aside_and_go_on_where_they_were(tmp_path: Path) -> None:
    told: list[str] = []
    printed = b""
    for number in range(10):
        device = log(tmp_path, told)
        assert device.position == len(printed)
        piece = f"line {number} ".encode() * 5 + b"\r\n"
        device.output(piece, float(number))
        printed += piece
        device.close()
    aside = sorted(path for path in tmp_path.glob("d.0*.log"))
    assert len(aside) == 2 and len(list(tmp_path.glob("d.time.0*.log"))) == 2
    first = int(aside[0].name.split(".")[1])
    assert b"".join(path.read_bytes() for path in [*aside, tmp_path / "d.log"]) == printed[first:]
    assert told == []


@given(st.lists(st.sampled_from([b"x", b"yy\r\n", b"\n", b"z" * 60 + b"\r\nw", b"v" * 70_000]), max_size=30))
def test_a_log_is_put_aside_between_lines(pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        device = log(Path(name), [], 100, 100)
        for number, piece in enumerate(pieces):
            device.output(piece, float(number))
        device.close()
        logs = [*sorted(Path(name).glob("d.0*.log")), Path(name, "d.log")]
        assert b"".join(path.read_bytes() for path in logs) == b"".join(pieces)
        for path in logs[:-1]:
            assert path.read_bytes().endswith(b"\n") or path.stat().st_size >= 64 * 1024


def test_a_log_that_can_not_be_rotated_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    device = log(tmp_path, said)
    (tmp_path / f"d.time.{0:016}.log").mkdir()
    for number in range(9):
        device.output(b"x" * 99 + b"\n", float(number))
    assert len(said) == 1 and "can't be rotated" in said[0]
    assert (tmp_path / "d.log").read_bytes() == (b"x" * 99 + b"\n") * 9
    (tmp_path / f"d.time.{0:016}.log").rmdir()
    device.output(b"later\n", 20.0)
    device.output(b"new\n", 21.0)
    assert (tmp_path / "d.log").read_bytes() == b"new\n" and device.position == 910
    # Somebody takes the open files away.
    (tmp_path / "d.log").unlink()
    for number in range(2):
        device.output(b"y" * 99 + b"\n", 30.0 + number)
    assert device.position == 1110 and len(said) == 1
    device.close()


def test_each_line_has_the_time_at_which_it_began(tmp_path: Path) -> None:
    device = log(tmp_path, [], 10_000)
    for number, data in enumerate((b"one\r\ntwo", b" more", b"\r\n", b"\n", b"three")):
        device.output(data, float(number))
    device.close()
    stamp = "1970-01-01T00:00:0{}.000 "
    expected = [
        f"{stamp.format(0)}one\r",
        f"{stamp.format(0)}two more\r",
        stamp.format(3),
        f"{stamp.format(4)}three",
    ]
    assert (tmp_path / "d.time.log").read_bytes().decode().split("\n") == expected


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files of 100 bytes at most: a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_told_once_and_what_is_missing_later(tmp_path: Path, small_files: None) -> None:
    told: list[str] = []
    device = log(tmp_path, told, 10_000)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    device.output(b"x" * 40 + b"\n", 0.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    for second in (1.0, 2.0, 3.0, 20.0):
        device.output(b"y" * 200, second)
    assert len(told) == 1 and "can't be written" in told[0]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    device.output(b"z\n", 100.0)
    assert "are missing in the log" in told[1] and len(told) == 2
    assert (tmp_path / "d.log").read_bytes().endswith(b"z\n")
    assert device.position == 41 + 800 + 2
    device.close()


@pytest.mark.parametrize(
    ("sent", "typed"),
    [
        (b"abc", b"abc"),
        (b"a\r\nb\r\0c\rd", b"a\rb\rc\rd"),
        (b"\xff\xfb\x01\xff\xfd\x03x", b"x"),
        (b"a\xff\xffb", b"a\xffb"),
        (b"\xff\xfa\x18\x00xterm\xff\xf0x", b"x"),
        (b"\xff\xfa\x1f\x00\xff\xff\x00\x18\xff\xf0x", b"x"),
        (b"\xff\xf1x", b"x"),
        (b"\n\n", b"\n\n"),
    ],
)
def test_telnet_is_taken_out_in_any_chunking(sent: bytes, typed: bytes) -> None:
    assert TelnetReader().receive_data(sent) == typed
    reader = TelnetReader()
    assert b"".join(reader.receive_data(bytes((byte,))) for byte in sent) == typed


@given(st.binary())
def test_any_bytes_pass_through_telnet(data: bytes) -> None:
    sent = data.replace(b"\xff", b"\xff\xff").replace(b"\r", b"\r\0")
    assert TelnetReader().receive_data(sent) == data


def test_the_escape_key() -> None:
    keys = Keys(1)
    assert keys.receive_keys(b"ab\x01") == b"ab" and keys.receive_keys(b"\x01c\x01x\x03") == b"\x01c\x03"
    assert keys.receive_keys(b"d\x01qe") == b"d" and keys.left


def test_logs_that_can_not_be_opened_or_break_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (groups_module, lab_module):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
        monkeypatch.setattr(module, "LONGEST_PAUSE", 0.02)
    servers, told = Servers(), []
    servers.up = False
    (tmp_path / "logs").write_text("in the way")
    devices = {name: DeviceConfig(name, "exec:cat", group=name[0]) for name in ("a1", "a2", "b1")}

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.001)

    async def story() -> None:
        groups = Groups(GroupLogs(None, servers.log), told.append)
        lab = Lab(LabConfig(log_dir=str(tmp_path / "logs"), devices=devices), groups, told.append)
        await lab.start()
        assert told[0] == f"a1 is left out: {tmp_path}/logs: File exists; trying again"
        (tmp_path / "logs").unlink()
        await until(lambda: servers.refused > 3)
        await lab.restart("b1")
        assert lab.devices["b1"].state == "its group b can't be opened"
        assert len(told) == len(set(told))
        servers.up = True
        await until(lambda: all(device.state == "connected" for device in lab.devices.values()))
        # One group breaks, and is removed; the other one goes on.
        others = lab.devices["b1"].attachment
        broken = groups.groups["a"]
        del servers.logs["a"]
        for log in servers.open[:]:
            if log.name == "a":
                log.broken(GroupLogError("a was removed"))
        await until(
            lambda: (
                groups.groups["a"] is not broken
                and len(groups.groups["a"].engine.state.coordinator.members) == 2
                and all(device.state == "connected" for device in lab.devices.values())
            )
        )
        assert "a: a was removed" in told and "the group a begins again" in told
        assert lab.devices["b1"].attachment is others
        await lab.close()
        await groups.close()
        assert servers.open == []

    asyncio.run(story())


def test_no_group_is_begun_for_devices_that_were_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_module, "FIRST_PAUSE", 0.05)
    servers = Servers()
    servers.up = False

    async def story() -> None:
        groups = Groups(GroupLogs(None, servers.log), lambda sentence: None)
        devices = {"b1": DeviceConfig("b1", "exec:cat", group="b")}
        lab = Lab(LabConfig(devices=devices), groups, lambda sentence: None)
        await lab.start()
        await lab.remove("b1")
        servers.up = True
        async with asyncio.timeout(20):
            while lab._later:
                await asyncio.sleep(0.001)
        assert groups.groups == {}
        await lab.close()
        await groups.close()

    asyncio.run(story())


def test_an_added_device_whose_group_cannot_be_opened_is_not_tried_again() -> None:
    servers, told = Servers(), list[str]()
    servers.up = False

    async def story() -> None:
        groups = Groups(GroupLogs(None, servers.log), told.append)
        lab = Lab(LabConfig(), groups, told.append)
        await lab.start()
        with pytest.raises(UsageError):
            await lab.add(DeviceConfig("b1", "exec:cat", group="b"))
        assert (lab.devices, lab._later) == ({}, {})
        assert len(told) == 1
        assert told[0].startswith("b1 is left out: ")
        assert "trying again" not in told[0]
        await lab.close()
        await groups.close()

    asyncio.run(story())


@pytest.mark.parametrize("answer", [b"hello\n", b"[1]\n", b"", b"[" * 100_000 + b"\n"])
def test_whoever_answers_at_the_control_socket_without_being_a_lab_is_said(
    tmp_path: Path, answer: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(
            SetupError, match=r"control: (what answers there is no lavabox|the service has closed)"
        ):
            call(str(tmp_path / "control"), {"do": "status"})
        thread.join()


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:80"])
def test_addresses_are_written_as_they_are_read(text: str) -> None:
    assert address_text(*parse_address(text)) == text


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert listener.recv(100) == b"READY=1"
    notify("READY=1")  # Nobody listens: nothing happens.
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    notify("READY=1")
    assert os.path.exists(tmp_path / "notify")
