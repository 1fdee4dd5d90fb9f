# SPDX-License-Identifier: MIT
"""The cache file: replaced whole or not at all, and known to be writable in time."""

import os
import stat
from pathlib import Path

import pytest

from toolkit import cache
from toolkit.cache import CacheFile
from toolkit.wire.vocabulary import NO, CommandError

ROWS = [["hb01", b"k", b"v"]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.txt"


@pytest.fixture
def environ(path: Path) -> dict[str, str]:
    return {"LAVA_MULTI_NODE_CACHE": str(path)}


def refused(environ: dict[str, str]) -> str:
    """Why entering fails."""
    with pytest.raises(CommandError) as caught, CacheFile(environ):
        pass
    assert caught.value.status == NO
    return caught.value.text


def test_default_path() -> None:
    assert CacheFile({}).path == "/tmp/lava_multi_node_cache.txt"
    assert CacheFile({"LAVA_MULTI_NODE_CACHE": ""}).path == "/tmp/lava_multi_node_cache.txt"


def test_the_old_content_stays_until_the_new_is_whole(path: Path, environ: dict[str, str]) -> None:
    path.write_text("old\n")
    with path.open() as reader, CacheFile(environ) as file:
        assert path.read_text() == "old\n"
        file.replace(ROWS, prefix=False)
        assert path.read_text() == "k=v\n"
        assert reader.read() == "old\n"
    assert path.read_text() == "k=v\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, CommandError(75, "no")])
def test_however_it_ends_nothing_is_left_behind(
    end: type[BaseException] | BaseException, path: Path, environ: dict[str, str]
) -> None:
    path.write_text("old\n")
    with pytest.raises(end if isinstance(end, type) else type(end)), CacheFile(environ):
        assert len(list(path.parent.iterdir())) == 2
        raise end
    assert path.read_text() == "old\n"
    assert list(path.parent.iterdir()) == [path]


def test_two_at_once_do_not_disturb_each_other(path: Path, environ: dict[str, str]) -> None:
    with CacheFile(environ) as first, CacheFile(environ) as second:
        second.replace([["hb02", b"k", b"2"]], prefix=False)
        first.replace([["hb01", b"k", b"1"]], prefix=False)
    assert path.read_text() == "k=1\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o644), (0, 0o644)])
def test_mode_follows_the_umask(umask: int, mode: int, path: Path, environ: dict[str, str]) -> None:
    old = os.umask(umask)
    try:
        with CacheFile(environ) as file:
            file.replace(ROWS, prefix=False)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_relative_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    for again in range(2):
        with CacheFile({"LAVA_MULTI_NODE_CACHE": path.name}) as file:
            file.replace([["hb01", b"k", b"%d" % again]], prefix=False)
    assert path.read_text() == "k=1\n"


def test_a_symbolic_link_is_replaced_and_not_followed(path: Path, environ: dict[str, str]) -> None:
    other = path.with_name("other")
    other.write_text("precious\n")
    path.symlink_to(other)
    with CacheFile(environ) as file:
        file.replace(ROWS, prefix=False)
    assert not path.is_symlink()
    assert path.read_text() == "k=v\n"
    assert other.read_text() == "precious\n"


def test_a_file_that_is_there_under_the_new_name_is_not_written(
    path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /tmp anybody may have put a link to a file of ours."""
    monkeypatch.setattr(cache.os, "urandom", bytes)
    other = path.with_name("other")
    other.write_text("precious\n")
    path.with_name(path.name + "." + "00" * 6).symlink_to(other)
    assert "File exists" in refused(environ)
    assert other.read_text() == "precious\n"


def test_large_content_is_written_whole(path: Path, environ: dict[str, str]) -> None:
    rows = [[f"d{number}", b"k", b"x" * 65535] for number in range(50)]
    with CacheFile(environ) as file:
        file.replace(rows, prefix=True)
    assert path.read_bytes() == b"".join(b"d%d:k=%s\n" % (n, b"x" * 65535) for n in range(50))


# What is known before anything is sent


@pytest.mark.parametrize(
    "name", ["missing/cache.txt", "x" * 300, "file/cache.txt"], ids=["no folder", "long name", "no directory"]
)
def test_a_place_where_no_file_can_be_made(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text = refused({"LAVA_MULTI_NODE_CACHE": str(tmp_path / name)})
    assert str(tmp_path / name) in text
    assert "LAVA_MULTI_NODE_CACHE=" in text


def test_a_directory_of_that_name(path: Path, environ: dict[str, str]) -> None:
    path.mkdir()
    assert "no regular file" in refused(environ)
    assert list(path.parent.iterdir()) == [path]


def test_a_device_is_not_replaced_by_a_file() -> None:
    assert "no regular file" in refused({"LAVA_MULTI_NODE_CACHE": os.devnull})
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize(
    ("directory_mode", "user", "refuses"),
    [(0o1777, "stranger", True), (0o1777, "root", False), (0o777, "stranger", False)],
)
def test_somebody_elses_file_in_a_sticky_directory(
    directory_mode: int,
    user: str,
    refuses: bool,
    path: Path,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path.touch()
    path.parent.chmod(directory_mode)
    monkeypatch.setattr(cache.os, "geteuid", lambda: 0 if user == "root" else os.getuid() + 1)
    if refuses:
        assert "another user" in refused(environ)
    else:
        with CacheFile(environ) as file:
            file.replace(ROWS, prefix=False)


def test_a_full_disk_is_an_error_and_leaves_the_old_file(
    path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("old\n")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with pytest.raises(CommandError, match="No space left") as caught, CacheFile(environ) as file:
        monkeypatch.setattr(cache.os, "write", full)
        file.replace(ROWS, prefix=False)
    assert caught.value.status == NO
    assert path.read_text() == "old\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_short_write_is_carried_on(
    path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(cache.os, "write", lambda descriptor, data: write(descriptor, data[:1]))
    with CacheFile(environ) as file:
        file.replace(ROWS, prefix=True)
    assert path.read_text() == "hb01:k=v\n"
