# SPDX-License-Identifier: MIT
"""Files that are written whole or not at all."""

import errno
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher import files
from dispatcher.errors import SetupError, UsageError
from dispatcher.files import check_writable, open_output, open_regular, read_text, told, write_whole
from dispatcher.grouplog.file import read_events
from dispatcher.grouplog.nats.address import read_credentials
from dispatcher.host.groupoptions import read_members
from dispatcher.host.lavajob import coordinator_is_here
from dispatcher.host.lavajob import read_job as read_lava_job
from dispatcher.jobs.reader import read_job
from dispatcher.jobs.repositories import Repositories
from dispatcher.lab.devicelog import DeviceLog
from dispatcher.lab.run import read_lab


def test_a_new_file_and_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0o022)
    try:
        for data in (b"first", b"second", b""):
            check_writable(path)
            write_whole(path, data)
            assert path.read_bytes() == data
            assert path.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder/file")
    check_writable(link)
    write_whole(link, b"data")
    assert link.is_symlink()
    assert (tmp_path / "folder" / "file").read_bytes() == b"data"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(pipe)
    data = b"data" * 100_000  # more than a pipe holds
    writer = threading.Thread(target=write_whole, args=(pipe, data))
    writer.start()
    os.set_blocking(reader, True)
    with open(reader, "rb") as file:
        while (read := file.read(len(data))) == b"":
            pass  # Nobody has opened the other end yet.
        assert read == data
    writer.join()
    assert pipe.is_fifo()


def test_a_pipe_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for append in (False, True):
        with pytest.raises(OSError, match="a named pipe or a socket that nobody reads"):
            open_output(tmp_path / "pipe", append=append)
    with pytest.raises(OSError, match="that nobody reads"):
        write_whole(tmp_path / "pipe", b"data")


def test_output_goes_on_or_begins_anew(tmp_path: Path) -> None:
    for append, content in ((False, b"1"), (True, b"11"), (False, b"1")):
        with open_output(tmp_path / "log", append=append) as file:
            file.write(b"1")
            assert (tmp_path / "log").read_bytes() == content


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "it is a folder, and not a file"),
        (make_pipe, "it is a named pipe, and not a file"),
        (make_socket, "No such device or address"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device, and not a file"),
        (lambda path: None, "No such file"),
    ],
    ids=["folder", "pipe", "socket", "device", "nothing"],
)
def test_input_is_a_file(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(OSError, match=words) as raised:
        open_regular(tmp_path / "x")
    assert words in (raised.value.strerror or "")


READERS: dict[str, Callable[[Path], object]] = {
    "credentials": read_credentials,
    "members": read_members,
    "lab": read_lab,
    "job": lambda path: read_job(path, Repositories()),
    "group log": lambda path: read_events(path, print),
    "ca": lambda path: read_credentials(with_text(path, f'ca = "{path}"\n')),
    "cert": lambda path: read_credentials(with_text(path, f'cert = "{path}"\nkey = "{path}"\n')),
    "log of a lab": lambda path: DeviceLog(path.parent, path.name.removesuffix(".log"), 1, 1, 0.0, print),
    "times of a lab": lambda path: DeviceLog(
        path.parent, path.name.removesuffix(".time.log"), 1, 1, 0.0, print
    ),
}


def with_text(beside: Path, text: str) -> Path:
    path = beside.with_name("credentials.toml")
    path.write_text(text)
    return path


@pytest.mark.parametrize("reader", READERS)
def test_nothing_waits_for_a_named_pipe(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "x.time.log")
    with pytest.raises((UsageError, SetupError, OSError), match="named pipe"):
        READERS[reader](tmp_path / "x.time.log")


def test_files_of_lava_that_are_named_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "job.yaml")
    assert read_lava_job(tmp_path, "1") is None
    assert coordinator_is_here(tmp_path / "job.yaml")


@pytest.mark.parametrize("reader", ["credentials", "lab"])
def test_a_document_that_is_nested_too_deep(tmp_path: Path, reader: str) -> None:
    (tmp_path / "x").write_text(f"a = {'[' * 5000}{']' * 5000}\n")
    with pytest.raises(UsageError, match="nested too deep"):
        READERS[reader](tmp_path / "x")


def test_text_without_an_end(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="more than 16777216 bytes"):
        read_text(tmp_path / "x")


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content(
    tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(files.os, fails, full)
    with pytest.raises(OSError, match="full") as failed:
        write_whole(path, b"new")
    assert told(failed.value) == f"{path}: full"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path}/none"):
        check_writable(tmp_path / "none" / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_what_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="no permission to write"):
        check_writable(tmp_path / "file")
