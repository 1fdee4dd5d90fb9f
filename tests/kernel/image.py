# SPDX-License-Identifier: MIT
"""What a guest boots: Debian's kernel, and an initramfs of a few Debian packages, the box and the scripts here.

Everything is made in build/kernel and kept there; packages are downloaded and unpacked
with apt-get and dpkg-deb, as any user, and nothing is installed.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from build_zipapp import build

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

KERNEL = "linux-image-cloud-amd64"
# The whole of Python's library, since the minimal one lacks termios.
PACKAGES = ("python3-minimal", "libpython3-stdlib", "bash", "dash", "busybox-static")
# Of what those depend on, this is needed to start them.
NEEDED = re.compile(
    r"libpython3\.\d+-(minimal|stdlib)|python3\.\d+-minimal|libc6|libexpat1|zlib1g|libtinfo6|"
    + "|".join(map(re.escape, PACKAGES))
)
# Most of what the packages hold. Of Python's library, packages that nothing here imports.
LEFT_OUT = re.compile(
    r"usr/share/.*|usr/lib/[^/]+/gconv/.*|"
    r"usr/lib/python[^/]+/(?!(__pycache__|collections|encodings|importlib|lib-dynload|re)/)[^/]+/.*"
)

# Of the cpio format that the kernel reads ("newc").
_MAGIC = b"070701"
_BLOCK = 4


class ImageError(Exception):
    """The image can't be made; the text says why."""


def kernel_image(folder: Path, package: str) -> Path:
    """The kernel that the package, or the newest that it depends on, holds."""
    name = _real_package(package)
    path = folder / f"vmlinuz-{name}"
    if not path.exists():
        debs = _download(folder, [name])
        unpacked = _unpack(folder / "kernel", debs, ["./boot/vmlinuz-*"])
        next((unpacked / "boot").glob("vmlinuz-*")).replace(path)
        shutil.rmtree(unpacked)
    return path


def base_image(folder: Path) -> Path:
    """The part of the initramfs that stays the same: a cpio archive of the packages' files."""
    path = folder / "base.cpio"
    if not path.exists():
        names = [name for name in _dependencies(PACKAGES) if NEEDED.fullmatch(name)]
        unpacked = _unpack(folder / "root", _download(folder, names), [])
        _merge_usr(unpacked)
        _compile(unpacked)
        _write_archive(path, _tree(unpacked, ""))
        shutil.rmtree(unpacked)
    return path


def guest_image(folder: Path, base: Path) -> Path:
    """The whole initramfs: the kernel reads archives that stand one behind the other."""
    box = build(folder / "lavabox")
    commands = subprocess.run(
        [sys.executable, "-I", box, "--list"], capture_output=True, text=True, check=True
    )
    entries: list[tuple[str, int, bytes]] = [
        ("init", stat.S_IFREG | 0o755, (HERE / "device" / "init").read_bytes()),
        ("usr/bin/lavabox", stat.S_IFREG | 0o755, box.read_bytes()),
        *((f"usr/bin/{name}", stat.S_IFLNK | 0o777, b"lavabox") for name in commands.stdout.split()),
        *_tree(HERE / "device", "test"),
        *_tree(ROOT / "examples", "test/examples"),
    ]
    path = folder / "initramfs.cpio"
    own = folder / "own.cpio"
    _write_archive(own, entries)
    path.write_bytes(base.read_bytes() + own.read_bytes())
    own.unlink()
    return path


# Packages


def _apt(*arguments: str, folder: Path | None = None) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        raise ImageError(f"{' '.join(arguments[:3])} ... failed:\n{done.stderr}\nTry `apt-get update` first.")
    return done.stdout


def _dependencies(packages: Iterable[str]) -> list[str]:
    without = [
        f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    ]
    lines = _apt("apt-cache", "depends", "--recurse", "--important", *without, *packages).splitlines()
    return sorted({line for line in lines if line[:1].isalnum()})


def _real_package(package: str) -> str:
    """What the package of a kernel stands for: the one of the newest version."""
    lines = _apt("apt-cache", "depends", "--important", package).splitlines()
    versions = [line.split()[-1] for line in lines if line.strip().startswith("Depends: linux-image-")]
    return versions[0] if versions else package


def _download(folder: Path, names: list[str]) -> list[Path]:
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    _apt("apt-get", "download", "-qq", *names, folder=packages)
    return [max(packages.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime) for name in names]


def _unpack(target: Path, debs: Iterable[Path], members: list[str]) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for deb in debs:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as tar:
            subprocess.run(
                ["tar", "-x", "--no-same-owner", "-C", target, "--wildcards", *members],
                stdin=tar.stdout,
                check=True,
            )
    return target


def _merge_usr(root: Path) -> None:
    """The links that make /bin, /lib and /lib64 parts of /usr, where the packages count on them."""
    for name in ("bin", "lib", "lib64"):
        if not (root / name).exists() and (root / "usr" / name).exists():
            (root / name).symlink_to(f"usr/{name}")


def _compile(root: Path) -> None:
    """Bytecode for the standard library, which a package makes where it is installed: by its own Python."""
    python = next((root / "usr" / "bin").glob("python3.*"))
    loader = root / "lib64" / "ld-linux-x86-64.so.2"
    if loader.is_symlink():
        # It names the path that it has on the guest.
        loader = root / os.readlink(loader).lstrip("/")
    libraries = ":".join(str(root / lib / "x86_64-linux-gnu") for lib in ("lib", "usr/lib"))
    library = next((root / "usr" / "lib").glob("python3.*"))
    subprocess.run(
        [loader, "--library-path", libraries, python, "-S", "-m", "compileall", "-q", "-s", root, library],
        env={"PYTHONHOME": str(root / "usr"), "LC_ALL": "C.UTF-8"},
        # Files that are not meant for this Python are none of our concern.
        check=False,
        stdout=subprocess.DEVNULL,
    )


# The archive


def _tree(folder: Path, prefix: str) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and content of everything in a folder, folders before what is in them."""
    if prefix:
        yield prefix, stat.S_IFDIR | 0o755, b""
    for path in sorted(folder.rglob("*")):
        inside = str(path.relative_to(folder))
        if LEFT_OUT.fullmatch(inside) or (prefix and "__pycache__" in inside):
            continue
        name = f"{prefix}/{inside}".lstrip("/")
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield name, mode, os.readlink(path).encode()
        else:
            yield name, mode, path.read_bytes() if stat.S_ISREG(mode) else b""


def _write_archive(path: Path, entries: Iterable[tuple[str, int, bytes]]) -> None:
    """All belongs to root, dates are none."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        number = 0
        for number, (name, mode, content) in enumerate(entries, start=1):
            file.write(_archive_entry(number, name, mode, content))
        # The kernel opens it for the first process before that has mounted anything.
        file.write(_archive_entry(number + 1, "dev", stat.S_IFDIR | 0o755, b""))
        file.write(_archive_entry(number + 2, "dev/console", stat.S_IFCHR | 0o600, b"", device=(5, 1)))
        file.write(_archive_entry(0, "TRAILER!!!", 0, b""))
    new.replace(path)


def _archive_entry(
    inode: int, name: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)
) -> bytes:
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
    head = _MAGIC + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _BLOCK)
