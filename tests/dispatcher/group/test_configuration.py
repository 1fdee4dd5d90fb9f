# SPDX-License-Identifier: MIT
"""What the dispatcher is told of its devices, and how mistakes in it are told."""

import pytest

from dispatcher.group import configuration
from dispatcher.group.configuration import Configuration, parse_configuration

FILE = """\
[devices.panda01]
target-ip = "192.168.1.7"
target-mac = "02:00:00:00:00:07"
probe-ip = "fe80::1%eth0"
probe-channel = 3

[devices.panda01.storage]
UMS = "/dev/disk/by-id/usb-x"
SATA = "/dev/disk/by-id/ata-y"

[devices."hb 01"]

[shared]
text = '''
two
lines
'''
"""


def test_a_file() -> None:
    read = parse_configuration(FILE)
    assert read.values("panda01", "target-ip") == ["192.168.1.7"]
    assert read.values("panda01", "probe-ip") == ["fe80::1%eth0"]
    assert read.values("panda01", "probe-channel") == ["3"]
    assert read.values("panda01", "target-storage") == [
        *("UMS", "/dev/disk/by-id/usb-x"),
        *("SATA", "/dev/disk/by-id/ata-y"),
    ]
    assert read.values("hb 01", "target-ip") == read.values("hb 01", "target-storage") == []
    assert read.values("other", "target-ip") == read.values("panda01", "storage") == []
    assert read.shared == "two\nlines\n"


def test_the_example_of_the_module() -> None:
    example = (configuration.__doc__ or "").partition("answer:\n")[2]
    read = parse_configuration("\n".join(line.strip() for line in example.splitlines()))
    assert read.values("panda01", "target-storage")[0] == "UMS"
    assert read.shared is not None


@pytest.mark.parametrize("text", ["", "[devices]", "[devices]\n[shared]\n"])
def test_nothing(text: str) -> None:
    assert parse_configuration(text) == Configuration()


# What is wrong, and what is said.
WRONG = {
    "no TOML": ("[devices.a]\ntarget-ip = 1.2.3\n", "at line 2"),
    "not closed": ("[shared]\ntext = '''\n", "at end of document"),
    "another table": (
        "[devices.a]\n\n[device.b]\n",
        "the file knows no 'device'; it has devices, shared (at line 3)",
    ),
    "another key": (
        "[devices.a]\ntarget-ip = '1.2.3.4'\ntarget-ipv6 = '::1'\n[devices.b]\nx = 1",
        "[devices.a] knows no 'target-ipv6'; it has target-ip, target-mac, probe-ip, probe-channel, storage (at line 3)",
    ),
    "no text": (
        "[devices.a]\ntarget-ip = true",
        "devices.a.target-ip is a text of one line, not True (at line 2)",
    ),
    "an empty text": (
        "[devices.a]\ntarget-ip = ''",
        "devices.a.target-ip is a text of one line, not '' (at line 2)",
    ),
    "several lines": (
        '[devices.a]\n\ntarget-mac = """\na\nb"""\n',
        "devices.a.target-mac is a text of one line, not 'a\\nb' (at line 3)",
    ),
    "no table for a device": ("[devices]\na = 1\n", "devices.a is a table, not 1 (at line 2)"),
    "in the first line of several": ("shared = 1\n# more\n", "shared is a table, not 1 (at line 1)"),
    "no table for devices": ("devices = 1\n", "devices is a table, not 1 (at line 1)"),
    "no table for storage": (
        "[devices.a]\nstorage = 'x'\n",
        "devices.a.storage is a table, not 'x' (at line 2)",
    ),
    "storage that is none": (
        "[devices.a]\nstorage = { UMS = 1.5 }",
        "devices.a.storage.UMS is a text of one line, not 1.5 (at line 2)",
    ),
    "a method with a line break": (
        '[devices.a]\nstorage = { "a\\nb" = "x" }',
        "a method of devices.a.storage is a text of one line, not 'a\\nb' (at line 2)",
    ),
    "shared text that is none": ("\n[shared]\ntext = 1\n", "shared.text is a text, not 1 (at line 3)"),
    "shared other things": ("[shared]\nmore = 1\n", "[shared] knows no 'more'; it has text (at line 2)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    text, sentence = WRONG[name]
    with pytest.raises(ValueError) as caught:
        parse_configuration(text)
    assert sentence in str(caught.value)
