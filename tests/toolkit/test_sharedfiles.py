# SPDX-License-Identifier: MIT
"""Files in shared places: what another user has planted there is neither read, written to nor waited for.

The last test walks all commands that have files of their own, as root, with everything that a
stranger can put in the place of each file and folder.
"""

import importlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit import hostsfile, sharedfiles
from toolkit.commands import lava_network, module_name
from toolkit.sharedfiles import Folder, Refused, open_folder, open_named
from toolkit.wire.vocabulary import CommandError

STRANGER = 1234

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


# What may be planted in the place of a file or a folder. `secret` is a file of root's.


def a_link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)
    os.lchown(path, STRANGER, STRANGER)


def a_link_of_our_own_to_nothing(path: Path, secret: Path) -> None:
    path.symlink_to(path.with_name("missing"))


def another_name_of_a_file(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def a_fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)
    os.chown(path, STRANGER, STRANGER)


def a_foreign_file(path: Path, secret: Path) -> None:
    path.write_bytes(secret.read_bytes())
    os.chown(path, STRANGER, STRANGER)


def a_file_that_all_can_write_to(path: Path, secret: Path) -> None:
    path.write_bytes(secret.read_bytes())
    path.chmod(0o666)


def a_foreign_folder(path: Path, secret: Path) -> None:
    path.mkdir()
    os.chown(path, STRANGER, STRANGER)


def a_folder_that_all_can_write_to(path: Path, secret: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def a_link_to_a_folder(path: Path, secret: Path) -> None:
    path.symlink_to(secret.parent)
    os.lchown(path, STRANGER, STRANGER)


Plant = Callable[[Path, Path], None]
FILES: list[Plant] = [a_link, another_name_of_a_file, a_fifo, a_foreign_file, a_file_that_all_can_write_to]
FOLDERS: list[Plant] = [a_foreign_folder, a_folder_that_all_can_write_to, a_link_to_a_folder, a_foreign_file]


def name_of(plant: object) -> str:
    return getattr(plant, "__name__", "")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir(0o700)
    path = folder / "secret"
    path.write_text("hb09:ipv4=6.6.6.6 secret\n")
    return path


# One file


@needs_root
@pytest.mark.parametrize("plant", [*FILES, a_foreign_folder], ids=name_of)
def test_a_file_that_is_not_ours_is_refused_at_once(plant: Plant, shared: Path, secret: Path) -> None:
    plant(shared / "file", secret)
    with Folder(str(shared)) as folder, pytest.raises(Refused, match=r"user (root \()?\d+"):
        folder.read("file")


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o444])
def test_a_file_of_ours_is_read(mode: int, shared: Path) -> None:
    (shared / "file").write_text("text")
    (shared / "file").chmod(mode)
    with Folder(str(shared)) as folder:
        assert folder.read("file") == b"text"
        with pytest.raises(FileNotFoundError):
            folder.read("other")


@needs_root
@pytest.mark.parametrize("plant", [a_link, another_name_of_a_file, a_foreign_file], ids=name_of)
def test_a_file_is_written_in_the_place_of_what_is_there(plant: Plant, shared: Path, secret: Path) -> None:
    before = secret.read_text()
    for write in (
        lambda folder: folder.replace("file", b"new"),
        lambda folder: os.close(folder.create("file")),
    ):
        plant(shared / "file", secret)
        with Folder(str(shared)) as folder:
            write(folder)
        status = (shared / "file").lstat()
        assert (status.st_uid, status.st_nlink) == (0, 1)
        assert not (shared / "file").is_symlink()
        assert secret.read_text() == before
        (shared / "file").unlink()


# One folder


@needs_root
@pytest.mark.parametrize("plant", FOLDERS, ids=name_of)
@pytest.mark.parametrize("make", [False, True])
def test_a_folder_that_is_not_ours_is_refused(make: bool, plant: Plant, shared: Path, secret: Path) -> None:
    plant(shared / "folder", secret)
    with pytest.raises(Refused, match=r"user 1234|others can write"):
        open_folder(str(shared), ["folder"], make)
    with pytest.raises(Refused, match=r"user 1234|others can write"):
        open_folder(str(shared), ["folder", "in it"], make)


@needs_root
def test_a_link_on_the_way_that_another_user_has_made(shared: Path, secret: Path) -> None:
    a_link_to_a_folder(shared / "link", secret)
    with pytest.raises(Refused, match="user 1234"):
        Folder(str(shared / "link" / "."))
    (shared / "own").symlink_to(secret.parent)
    with Folder(str(shared / "own")) as folder:
        assert folder.read("secret")


def test_links_of_ours_are_followed_as_the_kernel_follows_them(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("text")
    (tmp_path / "up").symlink_to("a/b/../b")
    (tmp_path / "a" / "far").symlink_to(tmp_path / "up")
    with Folder(str(tmp_path / "a" / "far")) as folder:
        assert folder.read("file") == b"text"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels"):
        Folder(str(tmp_path / "loop"))


def test_relative_and_odd_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_folder("a//./b/", [], make=True) as folder:
        folder.replace("file", b"text")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"text"
    assert [sharedfiles.split(path) for path in ("a", "/a", "a/b", "/a/b")] == [
        (".", "a"),
        ("/", "a"),
        ("a", "b"),
        ("/a", "b"),
    ]


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    (tmp_path / "file").touch()
    with open_folder(str(tmp_path), ["a", "b"], make=True) as folder:
        folder.replace("x", b"")
    for path in ("missing", "file", "file/x"):
        with pytest.raises(OSError, match=r"."):
            Folder(str(tmp_path / path))
    assert os.listdir("/proc/self/fd") == before


# Files that the user names


@needs_root
@pytest.mark.parametrize("plant", [a_link, a_fifo, a_foreign_folder], ids=name_of)
def test_a_named_file_is_the_one_that_was_meant(plant: Plant, shared: Path, secret: Path) -> None:
    plant(shared / "file", secret)
    with pytest.raises(OSError, match=r"user 1234"):
        open_named(str(shared / "file"), sharedfiles.PIPES)


@needs_root
def test_a_named_file_may_be_anybodys_and_behind_a_link_of_ours(shared: Path, secret: Path) -> None:
    a_foreign_file(shared / "log", secret)
    (shared / "link").symlink_to("log")
    for name in ("log", "link"):
        with open(open_named(str(shared / name)), "rb") as file:
            assert file.read() == secret.read_bytes()


@needs_root
def test_a_private_folder_is_not_one_that_another_user_can_exchange(shared: Path, secret: Path) -> None:
    """Between the look at it and the use of what is in it by its path."""
    (shared / "ours").mkdir()
    Folder(str(shared / "ours"), private=True).close()
    shared.chmod(0o777)
    with pytest.raises(Refused, match=r"others can rename ours in .*: its folder belongs to"):
        Folder(str(shared / "ours"), private=True)
    shared.chmod(0o755)
    os.chown(shared, STRANGER, STRANGER)
    with pytest.raises(Refused, match=r"others can rename ours in .*: its folder belongs to user 1234"):
        Folder(str(shared / "ours"), private=True)
    Folder(str(shared / "ours")).close()


# Names of a file that lead to root's secret file, and not to what was meant.


def a_link_in_a_folder_of_his(shared: Path, secret: Path) -> Path:
    a_foreign_folder(shared / "his", secret)
    a_link(shared / "his" / "file", secret)
    return shared / "his" / "file"


def a_link_of_ours_to_a_link_of_his(shared: Path, secret: Path) -> Path:
    a_link(shared / "his", secret)
    (shared / "ours").symlink_to("his")
    return shared / "ours"


def a_folder_that_is_a_link_of_his(shared: Path, secret: Path) -> Path:
    a_link_to_a_folder(shared / "his", secret)
    return shared / "his" / secret.name


def another_name_in_a_sticky_folder(shared: Path, secret: Path) -> Path:
    """Where fs.protected_hardlinks is off, as in the kernel without a distribution."""
    another_name_of_a_file(shared / "file", secret)
    return shared / "file"


def another_name_where_all_can_write(shared: Path, secret: Path) -> Path:
    shared.chmod(0o777)
    return another_name_in_a_sticky_folder(shared, secret)


def a_link_of_the_kernel(shared: Path, secret: Path) -> Path:
    """The folder of a process of his, in /proc."""
    (shared / "his").symlink_to("/proc/self/root")
    os.lchown(shared / "his", STRANGER, STRANGER)
    return Path(f"{shared}/his{secret}")


WAYS = [
    *(a_link_in_a_folder_of_his, a_link_of_ours_to_a_link_of_his, a_folder_that_is_a_link_of_his),
    *(another_name_in_a_sticky_folder, another_name_where_all_can_write, a_link_of_the_kernel),
]


@needs_root
@pytest.mark.parametrize("way", WAYS, ids=name_of)
def test_no_way_of_another_user_leads_to_a_named_file(
    way: Callable[[Path, Path], Path], shared: Path, secret: Path
) -> None:
    path = way(shared, secret)
    with pytest.raises(Refused):
        open_named(str(path), sharedfiles.PIPES)
    with pytest.raises(CommandError, match=r"is a link, and belongs to user 1234|it has another name, and"):
        hostsfile.replace_block(str(path), [b"10.0.0.1\tx\n"])
    assert b"10.0.0.1" not in secret.read_bytes()


def test_what_a_shell_hands_on_is_read(tmp_path: Path) -> None:
    """/dev/fd/N: links that the kernel alone can follow, also to what has no name."""
    reader, writer = os.pipe()
    os.write(writer, b"piped")
    os.close(writer)
    with open(open_named(f"/dev/fd/{reader}", sharedfiles.PIPES), "rb") as file:
        assert file.read() == b"piped"
    os.close(reader)
    (tmp_path / "file").write_bytes(b"written")
    with (tmp_path / "file").open("rb") as opened:
        (tmp_path / "file").unlink()
        with open(open_named(f"/proc/self/fd/{opened.fileno()}"), "rb") as file:
            assert file.read() == b"written"


@needs_root
def test_a_hosts_file_behind_a_planted_link(shared: Path, secret: Path) -> None:
    a_link(shared / "hosts", secret)
    with pytest.raises(CommandError, match="user 1234"):
        hostsfile.replace_block(str(shared / "hosts"), [b"10.0.0.1\tx\n"])
    assert b"10.0.0.1" not in secret.read_bytes()


# All commands


@pytest.fixture
def context(shared: Path, fake_context: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    operations = ("send", "case-start", "case-end", "result", "run-start", "run-end", "raise")
    replies = {**{operation: [] for operation in operations}, "self": ["hb01"], "group": [["hb09", "a"]]}
    rows = [["hb02", b"ipv4", b"10.0.0.2", b"hostname", b"hb02"]]
    replies.update({"wait": rows, "wait-all": rows, "sync": rows})
    monkeypatch.setattr("toolkit.network.describe", lambda interface, warn: [(b"ipv4", b"10.0.0.1")])
    environ = {
        "PATH": os.environ["PATH"],
        "LAVA_MULTI_NODE_CACHE": str(shared / "cache"),
        lava_network.VARIABLE: str(shared / "network"),
        "LAVA_RESULT_DIR": str(shared / "lava"),
    }
    return fake_context(replies, environ)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A session of root's that has nothing to do with any of it."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


# Each command, the paths below `shared` that it uses, and whether the last one is a folder.
USES: list[tuple[list[str], list[tuple[str, bool]]]] = [
    (["lava-wait", "x"], [("cache", False)]),
    (["lava-wait-all", "x"], [("cache", False)]),
    (["lava-sync", "x"], [("cache", False)]),
    (["lava-network", "broadcast", "eth0"], [("network", False), ("network.own", False)]),
    (["lava-network", "collect"], [("network", False), ("network.own", False)]),
    (["lava-network", "query", "hb09", "ipv4"], [("network", False)]),
    (["lava-network", "hosts", "HOSTS"], [("network", False)]),
    (["lava-network", "alias-hosts", "HOSTS"], [("network", False)]),
    (
        ["lava-background-process-start", "load", "--cmd", "true"],
        [
            ("lava", True),
            ("lava/results", True),
            ("lava/results/load", True),
            ("lava/results/load/mark", False),
            ("lava/results/load/pid", False),
            ("lava/results/load/output", False),
        ],
    ),
    (
        ["lava-background-process-stop", "load"],
        [
            ("lava", True),
            ("lava/results", True),
            ("lava/results/load", True),
            ("lava/results/load/mark", False),
            ("lava/results/load/output", False),
        ],
    ),
    (
        ["lava-test-run-attach", "FILE", "text/plain"],
        [("lava", True), ("lava/attachments", True), ("lava/attachments/file", False)],
    ),
    (
        ["lava-test-case-attach", "boot", "FILE"],
        [("lava", True), ("lava/results", True), ("lava/results/boot/attachments", True)],
    ),
    (["lava-test-shell", "--output_dir", "LAVA", "true"], [("lava", True), ("lava/return_code", False)]),
    (
        ["lava-test-runner", "LAVA"],
        [
            ("lava", True),
            ("lava/lava-test-runner.conf", False),
            ("lava/results", True),
            ("lava/def", True),
            ("lava/def/run.sh", False),
            ("lava/def/install.sh", False),
            ("lava/def/uuid", False),
        ],
    ),
    (["lava-test-case", "x", "--result", "pass", "--output", "LOG"], [("log", False)]),
]
WALK = [
    pytest.param(command, path, plant, id=f"{command[0]} {path} {plant.__name__}")
    for command, paths in USES
    for path, is_folder in paths
    for plant in (FOLDERS if is_folder else FILES)
]


@needs_root
@pytest.mark.parametrize(("command", "path", "plant"), WALK)
def test_every_command(
    command: list[str],
    path: str,
    plant: Plant,
    shared: Path,
    secret: Path,
    context: Any,
    tmp_path: Path,
    bystander: subprocess.Popen[bytes],
) -> None:
    """It refuses, and names the owner; or it does its work without what was planted. It never hangs."""
    for name, content in (("file", "text"), ("etc-hosts", "127.0.0.1\tlocalhost\n")):
        (tmp_path / name).write_text(content)
    target = shared / path
    target.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text(planted(command[0], path, bystander.pid))
    before = {file: file.read_bytes() for file in secret.parent.iterdir()}
    plant(target, secret)
    if command[0] == "lava-test-runner":
        prepare_definition(shared / "lava", plant)
    words = {
        "HOSTS": tmp_path / "etc-hosts",
        "FILE": tmp_path / "file",
        "LAVA": shared / "lava",
        "LOG": shared / "log",
    }
    module = importlib.import_module("toolkit.commands." + module_name(command[0]))
    begin = time.monotonic()
    try:
        module.run([str(words.get(word, word)) for word in command[1:]], context)
        said = context.warnings
    except CommandError as error:
        said = [error.text]
        reasons = ("user ", "others can write", "Not a directory")
        assert any(reason in error.text for reason in reasons), error.text
    assert time.monotonic() - begin < 20
    assert bystander.poll() is None
    assert {file: file.read_bytes() for file in secret.parent.iterdir()} == before
    assert not (tmp_path / "begun").exists()
    assert b"secret" not in context.written
    assert "secret" not in repr(context.requests)
    assert b"6.6.6.6" not in (tmp_path / "etc-hosts").read_bytes()
    assert all("secret" not in text or str(secret.parent.parent) in text for text in said)


def planted(command: str, path: str, pid: int) -> str:
    """What a stranger would put there."""
    if path.endswith("mark"):
        start_time = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{pid} {start_time} {boot}"
    if path.endswith(".sh"):
        return 'touch "$(dirname "$0")/../../../begun"\n'
    if path.endswith(".conf"):
        return "def\n"
    if command == "lava-test-case":
        return "a log that anybody may attach\n"
    return "hb09:ipv4=6.6.6.6 secret\nhb09:hostname=secret\n"


def prepare_definition(lava: Path, plant: Plant) -> None:
    """What is not planted is as it has to be."""
    for path, content in (
        ("lava-test-runner.conf", "def\n"),
        ("def/run.sh", "true\n"),
        ("def/install.sh", "true\n"),
        ("def/uuid", "1\n"),
    ):
        file = lava / path
        links = file.is_symlink() or file.parent.is_symlink() or lava.is_symlink()
        if not links and not file.exists() and file.parent.is_dir():
            file.write_text(content)
    if not (lava / "def").exists() and lava.is_dir() and not lava.is_symlink():
        (lava / "def").mkdir()
        (lava / "def" / "run.sh").write_text("true\n")
