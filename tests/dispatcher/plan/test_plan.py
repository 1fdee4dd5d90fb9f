# SPDX-License-Identifier: MIT
"""From the arguments of `lavabox sim` to devices: names, commands, folders."""

from pathlib import Path

import pytest

from dispatcher.errors import UsageError
from dispatcher.simulator.plan import Option, PlannedDevice, plan_devices

ROLE, DEVICE = Option.ROLE, Option.DEVICE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.sh").touch(0o755)
    (tmp_path / "data").touch(0o644)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "it's.sh").touch(0o755)
    (tmp_path / "deep" / "run.sh").touch(0o755)
    return tmp_path


def test_names_and_order(folder: Path) -> None:
    options = [(ROLE, "server=a"), (DEVICE, "panda01:client=b=c; d"), (ROLE, "client*2= e")]
    assert plan_devices(options, folder) == [
        PlannedDevice("server-1", "server", "a", folder),
        PlannedDevice("panda01", "client", "b=c; d", folder),
        PlannedDevice("client-1", "client", " e", folder),
        PlannedDevice("client-2", "client", " e", folder),
    ]


# The command as given, as it is run, and the folder.
SCRIPTS = {
    "in this folder": ("./run.sh a b", "./run.sh a b", "."),
    "without a dot": ("run.sh", "./run.sh", "."),
    "in another folder": ("deep/run.sh 'x y' | cat", "./run.sh 'x y' | cat", "deep"),
    "two folders": ("./deep/../deep/run.sh;echo", "./run.sh;echo", "deep"),
    "a name to be quoted is no plain word": ('"deep/er/it\'s.sh"', '"deep/er/it\'s.sh"', "."),
    "not the first word": ("sh deep/run.sh", "sh deep/run.sh", "."),
    "behind a variable": ("x=1 ./run.sh", "x=1 ./run.sh", "."),
    "a file that is no command": ("data", "data", "."),
    "a folder": ("deep", "deep", "."),
    "a program of the system": ("/bin/sh ./run.sh", "/bin/sh ./run.sh", "."),
    "a command": ("lava-sync x", "lava-sync x", "."),
    "an absolute path to no script here": ("/nonexistent/x", "/nonexistent/x", "."),
    "a pattern": ("./*.sh", "./*.sh", "."),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_runs_in_its_folder(name: str, folder: Path) -> None:
    given, command, directory = SCRIPTS[name]
    (device,) = plan_devices([(ROLE, f"x={given}")], folder)
    assert (device.command, device.directory) == (command, folder / directory)


def test_script_with_an_absolute_path(folder: Path) -> None:
    (device,) = plan_devices([(ROLE, f"x={folder}/deep/run.sh -v")], Path("/"))
    assert (device.command, device.directory) == ("./run.sh -v", folder / "deep")


REFUSED = {
    "nothing": ([], "no devices"),
    "no command": ([(ROLE, "server")], "the command is missing; write ROLE=COMMAND"),
    "an empty command": ([(ROLE, "server= ")], "the command is missing"),
    "no role": ([(ROLE, "=x")], "the name of the role is missing"),
    "no count": ([(ROLE, "a*=x")], "COUNT after '*' must be from 1 to 1000"),
    "count 0": ([(ROLE, "a*0=x")], "COUNT after '*' must be from 1 to 1000"),
    "count of a million": ([(ROLE, "a*1000000=x")], "COUNT after '*' must be from 1 to 1000, not '1000000'"),
    "a count that is none": ([(ROLE, "a*b*2=x")], "COUNT after '*' must be from 1 to 1000"),
    "in all too many": ([(ROLE, "a*900=x"), (ROLE, "b*900=x")], "devices are too many"),
    "a slash": ([(ROLE, "a/b=x")], "can't have '/' in it: 'a/b'"),
    "a colon": ([(DEVICE, "a:b:c=x")], "can't have ':' in it: 'b:c'"),
    "a blank": ([(ROLE, "a b=x")], "can't have ' ' in it"),
    "a line break": ([(DEVICE, "a\n:b=x")], "can't have"),
    "an escape": ([(DEVICE, "a\x1b:b=x")], "can't have"),
    "an option": ([(DEVICE, "-a:b=x")], "can't begin with '-'"),
    "too long": ([(ROLE, "a" * 65 + "=x")], "at most 64 characters"),
    "no role of a device": ([(DEVICE, "a=x")], "the role is missing; write NAME:ROLE=COMMAND"),
    "no name": ([(DEVICE, ":b=x")], "the name of the device is missing"),
    "twice": ([(ROLE, "a=x"), (DEVICE, "a-1:b=x")], "two devices are called a-1"),
    "a script that is not there": ([(ROLE, "a=./nosuch.sh x")], "there is no file ./nosuch.sh in "),
    "a script that is not executable": ([(ROLE, "a=./data")], "data is not executable; run `chmod"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, folder: Path) -> None:
    options, message = REFUSED[name]
    with pytest.raises(UsageError) as caught:
        plan_devices(options, folder)
    assert message in str(caught.value)
    if len(options) == 1:
        assert str(caught.value).startswith(options[0][0].value)
