# SPDX-License-Identifier: MIT
"""The cache file: replaced whole or not at all, and empty while its data is waited for."""

import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from toolkit import sharedfiles
from toolkit.cache import CacheFile
from toolkit.context import Context
from toolkit.wire.vocabulary import NO, CommandError

LINES = [b"k=v\n"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.txt"


@pytest.fixture
def environ(path: Path) -> dict[str, str]:
    return {"LAVA_MULTI_NODE_CACHE": str(path)}


def refused(environ: dict[str, str]) -> str:
    """Why it cannot be written."""
    with pytest.raises(CommandError) as caught:
        CacheFile(Context("lava-wait", environ)).write(LINES)
    assert caught.value.status == NO
    return caught.value.text


def test_default_path() -> None:
    assert CacheFile(Context("lava-wait", {})).path == "/tmp/lava_multi_node_cache.txt"
    assert (
        CacheFile(Context("lava-wait", {"LAVA_MULTI_NODE_CACHE": ""})).path
        == "/tmp/lava_multi_node_cache.txt"
    )


def test_a_reader_sees_the_old_content_or_the_new(path: Path, environ: dict[str, str]) -> None:
    path.write_text("old\n")
    with path.open() as reader:
        CacheFile(Context("lava-wait", environ)).write(LINES)
        assert path.read_text() == "k=v\n"
        assert reader.read() == "old\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o644), (0, 0o644)])
def test_mode_follows_the_umask(umask: int, mode: int, path: Path, environ: dict[str, str]) -> None:
    old = os.umask(umask)
    try:
        CacheFile(Context("lava-wait", environ)).write(LINES)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_relative_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    for again in range(2):
        CacheFile(Context("lava-wait", {"LAVA_MULTI_NODE_CACHE": path.name})).write([b"k=%d\n" % again])
    assert path.read_text() == "k=1\n"


def test_a_symbolic_link_is_replaced_and_not_followed(path: Path, environ: dict[str, str]) -> None:
    other = path.with_name("other")
    other.write_text("precious\n")
    path.symlink_to(other)
    CacheFile(Context("lava-wait", environ)).write(LINES)
    assert not path.is_symlink()
    assert path.read_text() == "k=v\n"
    assert other.read_text() == "precious\n"


def test_a_file_that_is_there_under_the_new_name_is_not_written(
    path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /tmp anybody may have put a link to a file of ours."""
    monkeypatch.setattr(sharedfiles, "random_bytes", bytes)
    other = path.with_name("other")
    other.write_text("precious\n")
    path.with_name(path.name + "." + "00" * 6).symlink_to(other)
    assert "File exists" in refused(environ)
    assert other.read_text() == "precious\n"


def test_large_content_is_written_whole(path: Path, environ: dict[str, str]) -> None:
    lines = [b"d%d:k=%s\n" % (number, b"x" * 65535) for number in range(50)]
    CacheFile(Context("lava-wait", environ)).write(lines)
    assert path.read_bytes() == b"".join(lines)


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
    assert "not a regular file" in refused(environ)
    assert list(path.parent.iterdir()) == [path]


def test_a_device_is_not_replaced_by_a_file() -> None:
    assert "not a regular file" in refused({"LAVA_MULTI_NODE_CACHE": os.devnull})
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("mode", "refuses"), [(0o1777, True), (0o777, False)])
def test_somebody_elses_file(mode: int, refuses: bool) -> None:
    """It is replaced where the system allows that, and never written to."""
    # (Not tmp_path, which only its owner may enter.)
    with TemporaryDirectory() as folder:
        path = Path(folder, "cache.txt")
        path.touch()
        path.parent.chmod(mode)
        environ = {"LAVA_MULTI_NODE_CACHE": str(path)}
        os.seteuid(1234)
        try:
            if refuses:
                assert "belongs to user root (0)" in refused(environ)
            else:
                CacheFile(Context("lava-wait", environ)).write(LINES)
                assert path.stat().st_uid == 1234
        finally:
            os.seteuid(0)


def test_a_full_disk_is_an_error_and_leaves_the_old_file(
    path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("old\n")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sharedfiles.os, "write", full)
    with pytest.raises(CommandError, match="No space left") as caught:
        CacheFile(Context("lava-wait", environ)).write(LINES)
    assert caught.value.status == NO
    assert path.read_text() == "old\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_short_write_is_carried_on(
    path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(sharedfiles.os, "write", lambda descriptor, data: write(descriptor, data[:1]))
    CacheFile(Context("lava-wait", environ)).write(LINES)
    assert path.read_text() == "k=v\n"
