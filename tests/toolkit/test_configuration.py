# SPDX-License-Identifier: MIT
"""The commands that print what the dispatcher's configuration says of the device."""

import importlib
from typing import Any

import pytest

from toolkit.commands import module_name
from toolkit.wire.vocabulary import NO, NO_DISPATCHER, OK, CommandError

PRINTING = {
    "lava-target-ip": "target-ip",
    "lava-target-mac": "target-mac",
    "lava-probe-ip": "probe-ip",
    "lava-probe-channel": "probe-channel",
}
STORAGE = ["UMS", "usb-Linux_UMS_disk_0", "SATA", "ata ü", "UMS", "usb-second"]


def run(command: str, context: Any, *arguments: str) -> int:
    status: int = importlib.import_module("toolkit.commands." + module_name(command)).run(
        list(arguments), context
    )
    return status


@pytest.mark.parametrize(("command", "key"), PRINTING.items())
@pytest.mark.parametrize(("values", "printed"), [(["10.0.0.1"], "10.0.0.1\n"), ([], "\n")])
def test_a_value_or_an_empty_line(
    command: str, key: str, values: list[str], printed: str, fake_context: Any
) -> None:
    context = fake_context({"config": values})
    assert run(command, context) == OK
    assert context.requests == [("config", key)]
    assert context.written.decode() == printed


@pytest.mark.parametrize(
    ("values", "arguments", "status", "printed"),
    [
        (STORAGE, [], OK, "\tUMS\tusb-Linux_UMS_disk_0\n\tSATA\tata ü\n\tUMS\tusb-second\n"),
        (STORAGE, ["SATA"], OK, "ata ü\n"),
        (STORAGE, ["UMS"], OK, "usb-Linux_UMS_disk_0\nusb-second\n"),
        (STORAGE, ["sata"], NO, ""),
        (STORAGE, ["U.S"], NO, ""),
        (STORAGE, [""], OK, "\tUMS\tusb-Linux_UMS_disk_0\n\tSATA\tata ü\n\tUMS\tusb-second\n"),
        ([], [], OK, ""),
        ([], ["UMS"], NO, ""),
    ],
)
def test_storage(
    values: list[str], arguments: list[str], status: int, printed: str, fake_context: Any
) -> None:
    context = fake_context({"config": values})
    assert run("lava-target-storage", context, *arguments) == status
    assert context.requests == [("config", "target-storage")]
    assert context.written.decode() == printed


SHARED = "hb01 power=on\nrack hb02 hb01\n\nüber"


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ([], SHARED + "\n"),
        ([""], SHARED + "\n"),
        (["hb01"], "hb01 power=on\nrack hb02 hb01\n"),
        (["über"], "über\n"),
    ],
)
def test_shared_text(arguments: list[str], printed: str, fake_context: Any) -> None:
    context = fake_context({"shared-config": [SHARED]})
    assert run("lava-echo-config", context, *arguments) == OK
    assert context.written.decode() == printed


@pytest.mark.parametrize(
    ("values", "arguments", "said"),
    [
        ([], [], "no shared config"),
        ([""], [], "no shared config"),
        ([], ["hb01"], "no shared config"),
        ([SHARED], ["hb0"], "no matching devices"),
    ],
)
def test_no_shared_text(values: list[str], arguments: list[str], said: str, fake_context: Any) -> None:
    context = fake_context({"shared-config": values})
    with pytest.raises(CommandError, match=said) as caught:
        run("lava-echo-config", context, *arguments)
    assert caught.value.status == NO
    assert context.written == b""


@pytest.mark.parametrize(
    ("command", "arguments", "ignored"),
    [
        *((command, ["x"], "x") for command in PRINTING),
        *((command, ["--all"], "--all") for command in PRINTING),
        ("lava-target-storage", ["SATA", "b"], "b"),
        ("lava-echo-config", ["hb01", "b"], "b"),
    ],
)
def test_surplus_words_are_warned_of(
    command: str, arguments: list[str], ignored: str, fake_context: Any
) -> None:
    """As in LAVA, they change nothing."""
    context = fake_context({"config": STORAGE, "shared-config": [SHARED]})
    assert run(command, context, *arguments) == OK
    (warning,) = context.warnings
    assert ignored in warning


@pytest.mark.parametrize("command", [*PRINTING, "lava-target-storage", "lava-echo-config"])
def test_without_dispatcher(command: str, fake_context: Any) -> None:
    no = CommandError(NO_DISPATCHER, "none")
    with pytest.raises(CommandError):
        run(command, fake_context({"config": no, "shared-config": no}))
