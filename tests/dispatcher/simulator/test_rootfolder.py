# SPDX-License-Identifier: MIT
"""What the root of isolated devices is made of, and their addresses: without any namespace."""

import os
import stat
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import SetupError
from dispatcher.simulator.network import plan_network, routed_networks
from dispatcher.simulator.rootfolder import Kind, Part, mount_points, root_parts, visible_parts


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for folder in ("etc", "home/joe", "home/ann", "proc", "tmp", "usr/bin", "var/lib"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "notes").write_text("x")
    (tmp_path / "usr").chmod(0o750)
    return tmp_path


def kinds(parts: list[Part]) -> dict[str, str]:
    return {part.path: part.kind.value for part in parts}


def test_root_without_mounts(base: Path) -> None:
    parts = root_parts(base, {})
    assert kinds(parts) == {
        "bin": "link",
        "etc": "overlay",
        "home": "overlay",
        "notes": "file",
        "usr": "overlay",
        "var": "overlay",
    }
    usr = next(part for part in parts if part.path == "usr")
    assert (usr.mode, usr.owner) == (0o750, f"{os.geteuid()}:{os.getegid()}")


def test_folders_with_mounts_are_made_anew(base: Path) -> None:
    parts = root_parts(base, {base: "ext4", base / "home/joe": "ext4", base / "var/lib": "autofs"})
    assert kinds(parts) == {
        "bin": "link",
        "etc": "overlay",
        "home": "folder",
        "home/ann": "overlay",
        "home/joe": "overlay",
        "notes": "file",
        "usr": "overlay",
        "var": "folder",
        "var/lib": "folder",
    }
    paths = [part.path for part in parts]
    assert paths.index("home") < paths.index("home/ann")


def test_a_root_whose_etc_leads_elsewhere_is_refused(base: Path) -> None:
    (base / "etc").rmdir()
    (base / "etc").symlink_to("/etc")
    with pytest.raises(SetupError, match="is a link"):
        root_parts(base, {})


def test_visible_folders(tmp_path: Path) -> None:
    folder = tmp_path.resolve() / "a"
    (folder / "b").mkdir(parents=True)
    # (That of the tests lies in /tmp as a rule.)
    if folder.parts[1] == "tmp":
        (part,) = visible_parts([folder / "b", folder, Path("/usr")], None, {})
        assert (part.kind, part.path, part.source) == (Kind.OVERLAY, str(folder)[1:], str(folder))
    parts = visible_parts([folder / "b", folder, Path("/usr")], tmp_path / "image", {})
    assert [part.source for part in parts] == [str(folder), "/usr"]


def test_visible_folders_with_mounts(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    for name in ("plain", "volume/project"):
        (folder / name).mkdir(parents=True)
    parts = visible_parts([folder], tmp_path / "image", {folder / "volume": "tmpfs"})
    assert [(part.kind, part.source) for part in parts] == [
        (Kind.FOLDER, str(folder)),
        (Kind.OVERLAY, str(folder / "plain")),
        (Kind.OVERLAY, str(folder / "volume")),
    ]


def test_folders_that_an_image_has_as_links(tmp_path: Path) -> None:
    (tmp_path / "usr").symlink_to("/elsewhere")
    with pytest.raises(SetupError, match="/usr is a link there"):
        visible_parts([Path("/usr/share")], tmp_path, {})


def test_mount_points() -> None:
    text = (
        "22 27 0:21 / /proc rw,relatime shared:1 - proc proc rw\n"
        "30 27 8:1 / /mnt/a\\040b rw - ext4 /dev/sda1 rw\n"
    )
    assert mount_points(text) == {Path("/proc"): "proc", Path("/mnt/a b"): "ext4"}


def test_routed_networks() -> None:
    text = (
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
        "eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n"
        "eth0 00004D0A 00000000 0001 0 0 0 0000FFFF 0 0 0\n"
    )
    assert routed_networks(text) == [IPv4Network("10.77.0.0/16")]
    network = plan_network(["a"], routed_networks(text))
    assert str(network.interfaces["a"].ipv4) == "10.78.0.2/16"
    assert routed_networks("") == []


@given(st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=300))
def test_addresses_differ(names: list[str]) -> None:
    network = plan_network(names, [])
    assert list(network.interfaces) == names
    interfaces = network.interfaces.values()
    assert len({interface.mac for interface in interfaces}) == len(names)
    addresses = {network.gateway_ipv4.ip} | {interface.ipv4.ip for interface in interfaces}
    assert len(addresses) == len(names) + 1
    for interface in interfaces:
        assert interface.ipv4 in network.gateway_ipv4.network
        assert interface.ipv6 in network.gateway_ipv6.network
        # Locally administered, and of one host.
        assert int(interface.mac[:2], 16) & 3 == 2


def test_modes_are_permissions_only(base: Path) -> None:
    (base / "var").chmod(0o1777)
    var = next(part for part in root_parts(base, {}) if part.path == "var")
    assert var.mode == 0o1777 == stat.S_IMODE((base / "var").stat().st_mode)


def test_what_goes_away_meanwhile_is_left_out(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.listdir(base)
    monkeypatch.setattr(os, "listdir", lambda folder: [*listed, "gone"])
    assert "gone" not in kinds(root_parts(base, {}))
