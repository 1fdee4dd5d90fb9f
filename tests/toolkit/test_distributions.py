# SPDX-License-Identifier: MIT
"""The commands that handle packages, with programs that only write down how they were called."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolkit import distributions
from toolkit.commands import (
    lava_add_keys,
    lava_add_sources,
    lava_install_packages,
    lava_installed_packages,
    lava_os_build,
)
from toolkit.wire.vocabulary import NO, OK, CommandError, UsageError

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'


class System:
    """A system of our own making: its os-release, its programs, and what they were called with."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._release = folder / "os-release"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.calls_file = folder / "calls"
        self.environ = {"PATH": f"{self.bin}:/usr/bin:/bin", "CALLS": str(self.calls_file)}
        monkeypatch.setattr(distributions, "OS_RELEASE", (str(folder / "missing"), str(self._release)))
        # Of the machine that the tests run on, only what every system has.
        for name in ("sh", "printf", "cat", "ls", "test", "touch"):
            (self.bin / name).symlink_to(f"/bin/{name}")
        self.environ["PATH"] = str(self.bin)

    def release(self, text: str) -> None:
        self._release.write_text(text)

    def program(self, name: str, script: str = "") -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\nprintf "%s|" {name} "$@" >>"$CALLS"; echo >>"$CALLS"\n{script}\n')
        path.chmod(0o755)

    def calls(self) -> list[list[str]]:
        if not self.calls_file.exists():
            return []
        return [line.split("|")[:-1] for line in self.calls_file.read_text().splitlines()]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


@pytest.fixture
def context(system: System, fake_context: Any) -> Any:
    return fake_context({}, system.environ)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(lava_install_packages.time, "sleep", slept.append)
    return slept


# Which package manager

ALL = ["apt-get", "dnf", "yum", "zypper", "opkg", "pacman", "apk", "slackpkg"]


@pytest.mark.parametrize(
    ("release", "programs", "used"),
    [
        ("ID=debian\n", ALL, "apt-get"),
        ("ID=ubuntu\nID_LIKE=debian\n", ALL, "apt-get"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", ALL, "apt-get"),
        ("ID=apertis\n", ALL, "apt-get"),
        ("ID=fedora\n", ALL, "dnf"),
        ('ID="centos"\nID_LIKE="rhel fedora"\n', ALL, "dnf"),
        ('ID="centos"\n', ["apt-get", "yum"], "yum"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', ALL, "dnf"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', ALL, "zypper"),
        ("ID=poky\n", ALL, "opkg"),
        ("ID=openwrt\n", ALL, "opkg"),
        ("ID=arch\n", ALL, "pacman"),
        ("ID=alpine\n", ALL, "apk"),
        ("ID=slackware\n", ALL, "slackpkg"),
        ("ID=poky-variant\n", ["opkg"], "opkg"),
        ("ID=debian\n", ["opkg"], "opkg"),
        ("# ID=fedora\nID=\n\nnonsense\n", ["pacman"], "pacman"),
        (None, ["apk"], "apk"),
    ],
)
def test_package_manager(release: str | None, programs: list[str], used: str, system: System) -> None:
    if release is not None:
        system.release(release)
    for name in programs:
        system.program(name)
    manager = distributions.package_manager(system.environ)
    assert manager is not None
    assert manager.install[0] == used


def test_no_package_manager(system: System) -> None:
    system.release(DEBIAN)
    assert distributions.package_manager(system.environ) is None


# lava-install-packages


@pytest.mark.parametrize(
    ("manager", "calls"),
    [
        ("apt-get", [["-q", "update"], ["-q", "-y", "install", "a", "b+c"]]),
        ("dnf", [["-y", "install", "a", "b+c"]]),
        ("yum", [["-y", "install", "a", "b+c"]]),
        ("zypper", [["--non-interactive", "install", "a", "b+c"]]),
        ("opkg", [["update"], ["install", "a", "b+c"]]),
        ("pacman", [["-Sy", "--noconfirm"], ["-S", "--noconfirm", "--needed", "a", "b+c"]]),
        ("apk", [["update"], ["add", "a", "b+c"]]),
        (
            "slackpkg",
            [
                ["-batch=on", "-default_answer=y", "update"],
                ["-batch=on", "-default_answer=y", "install", "a", "b+c"],
            ],
        ),
    ],
)
def test_install(manager: str, calls: list[list[str]], system: System, context: Any) -> None:
    system.program(manager, 'test "$DEBIAN_FRONTEND" = noninteractive')
    assert lava_install_packages.run(["a", "b+c"], context) == OK
    assert system.calls() == [[manager, *call] for call in calls]
    assert context.warnings == []


def test_nothing_of_the_callers_input_is_read(system: System) -> None:
    """Not in `while read package; do lava-install-packages $package; done <list`."""
    for name in ("apt-get", "gpg", "dpkg-query"):
        system.program(name, "cat >/dev/null")
    code = "import sys; from toolkit.cli import main; sys.exit(main(sys.argv[1:]))"
    script = '"$0" -c "$1" lava-install-packages a; "$0" -c "$1" lava-installed-packages; read line; echo "[$line]"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable, code],
        input="line\n",
        capture_output=True,
        text=True,
        cwd=Path(distributions.__file__).parent.parent,
        env=system.environ,
    )
    assert (done.stdout, done.stderr) == ("[line]\n", "")
    assert len(system.calls()) == 3


def test_install_tries_again(system: System, context: Any, pauses: list[float]) -> None:
    tried = system.folder / "tried"
    system.program("dnf", f'printf x >>"{tried}"; test "$(cat "{tried}")" = xxx || exit 7')
    assert lava_install_packages.run(["a"], context) == OK
    assert len(system.calls()) == 3
    assert pauses == [60.0, 60.0]
    assert context.warnings == ["dnf ended with status 7; another try in 60 seconds"] * 2


def test_install_gives_up(system: System, context: Any, pauses: list[float]) -> None:
    system.program("apt-get", "exit 100")
    with pytest.raises(CommandError, match="apt-get ended with status 100, 5 times") as caught:
        lava_install_packages.run(["a"], context)
    assert caught.value.status == NO
    assert len(system.calls()) == 10
    assert len(pauses) == 4


def test_install_where_nothing_can_be_installed(system: System, context: Any) -> None:
    assert lava_install_packages.run(["a"], context) == OK
    (warning,) = context.warnings
    assert "nothing has been installed" in warning


@pytest.mark.parametrize(
    "arguments", [["--no-install-recommends", "a"], ["-t", "suite", "a"], ["a", "--purge"], ["-y"]]
)
def test_install_hands_options_on(arguments: list[str], system: System, context: Any) -> None:
    system.program("apt-get")
    assert lava_install_packages.run(arguments, context) == OK
    assert system.calls()[-1] == ["apt-get", "-q", "-y", "install", *arguments]


def test_install_nothing(system: System, context: Any) -> None:
    system.program("apt-get")
    assert lava_install_packages.run([], context) == OK
    assert system.calls() == []
    assert len(context.warnings) == 1


# lava-installed-packages

LISTS = [
    (
        "apt-get",
        "dpkg-query",
        r"bash\t5.2.15-2+b7\nlibc6\t2.36-9\n",
        ["bash : 5.2.15-2+b7", "libc6 : 2.36-9"],
    ),
    ("dnf", "rpm", r"bash\t5.2-1.fc40\n", ["bash : 5.2-1.fc40"]),
    ("zypper", "rpm", r"bash 5.2-1\n", ["bash : 5.2-1"]),
    ("opkg", "opkg", r"bash - 5.2-r0\nlib-x - 1.0 - a thing\n\n", ["bash : 5.2-r0", "lib-x : 1.0"]),
    ("pacman", "pacman", r"bash 5.2.026-2\n", ["bash : 5.2.026-2"]),
    ("apk", "apk", r"bash-5.2.26-r0\nlib-x11-1.8-r3\n", ["bash : 5.2.26-r0", "lib-x11 : 1.8-r3"]),
]


@pytest.mark.parametrize(("manager", "lister", "output", "lines"), LISTS, ids=[row[0] for row in LISTS])
def test_installed(
    manager: str, lister: str, output: str, lines: list[str], system: System, context: Any
) -> None:
    system.program(manager)
    system.program(lister, f"printf '{output}'")
    assert lava_installed_packages.run([], context) == OK
    assert context.written.decode() == "".join(f"package: {line}\n" for line in lines)


def test_installed_on_slackware(system: System, context: Any) -> None:
    system.program("slackpkg")
    (system.bin / "ls").unlink()
    system.program("ls", r"printf 'aaa_base-15.0-x86_64-3\nbash-completion-2.11-noarch-4\n'")
    assert lava_installed_packages.run([], context) == OK
    assert context.written == b"package: aaa_base : 15.0\npackage: bash-completion : 2.11\n"


@pytest.mark.skipif(not Path("/usr/bin/dpkg-query").exists(), reason="no dpkg here")
def test_installed_on_this_debian(fake_context: Any) -> None:
    context = fake_context({}, os.environ)
    assert lava_installed_packages.run([], context) == OK
    form = "package: ${Package} : ${Version}\n"
    expected = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, check=True).stdout
    assert context.written == expected


@pytest.mark.parametrize("manager", distributions.MANAGERS)
@pytest.mark.parametrize("line", ["name", "a-b", "-", "WARNING: - -x-", "1\t"])
def test_any_line_is_an_entry(manager: distributions.Manager, line: str) -> None:
    assert len(manager.entry(line)) == 2


def test_a_list_that_fails(system: System, context: Any) -> None:
    system.program("pacman", "echo bash 1; exit 3")
    with pytest.raises(CommandError, match="`pacman -Q` ended with status 3") as caught:
        lava_installed_packages.run([], context)
    assert caught.value.status == NO
    assert context.written == b""


def test_a_lister_that_is_missing(system: System, context: Any, capfd: pytest.CaptureFixture[str]) -> None:
    system.program("apt-get")
    with pytest.raises(CommandError, match="status 127"):
        lava_installed_packages.run([], context)
    assert "dpkg-query" in capfd.readouterr().err


def test_installed_without_package_manager(context: Any) -> None:
    with pytest.raises(CommandError, match="no package manager") as caught:
        lava_installed_packages.run([], context)
    assert caught.value.status == NO


# lava-add-keys


@pytest.fixture
def keys(system: System, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = system.folder / "trusted"
    folder.mkdir()
    monkeypatch.setattr(lava_add_keys, "FOLDER", str(folder))
    system.program("apt-get")
    system.program("gpg", 'touch "${4#gnupg-ring:}"; test "${8}" != dead')
    return folder


def test_keys_are_got_and_readable(keys: Path, system: System, context: Any) -> None:
    mask = os.umask(0o077)
    try:
        assert lava_add_keys.run(["0x7C751B3F", "abcdef0123"], context) == OK
    finally:
        os.umask(mask)
    assert sorted(path.name for path in keys.iterdir()) == ["lavabox-7C751B3F.gpg", "lavabox-abcdef0123.gpg"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o644}
    ring = f"gnupg-ring:{keys}/lavabox-7C751B3F.gpg"
    server = "hkps://keyserver.ubuntu.com"
    asked = ["--no-default-keyring", "--keyring", ring, "--keyserver", server, "--recv-keys", "0x7C751B3F"]
    assert system.calls()[0] == ["gpg", "--batch", *asked]


def test_a_key_that_is_not_found(keys: Path, system: System, context: Any) -> None:
    with pytest.raises(
        CommandError, match="the key dead has not been added: gpg ended with status 1"
    ) as caught:
        lava_add_keys.run(["dead"], context)
    assert caught.value.status == NO


def test_options_go_to_gpg_and_other_words_are_packages(keys: Path, system: System, context: Any) -> None:
    for program in ("apt-get", "gpg"):
        system.program(program, f"touch {keys}/lavabox-12ab.gpg")
    arguments = ["--keyserver", "hkp://keys", "0x12ab", "some-keyring", "-v"]
    assert lava_add_keys.run(arguments, context) == OK
    apt, gpg = system.calls()
    assert apt == ["apt-get", "-q", "-y", "install", "some-keyring"]
    assert gpg[-5:] == ["--keyserver", "hkp://keys", "-v", "--recv-keys", "0x12ab"]


@pytest.mark.parametrize("arguments", [[], ["--all"]])
def test_no_key(arguments: list[str], keys: Path, system: System, context: Any) -> None:
    assert lava_add_keys.run(arguments, context) == OK
    assert system.calls() == []
    assert len(context.warnings) == 1


@pytest.mark.parametrize("manager", [None, "dnf"])
@pytest.mark.parametrize("command", [lava_add_keys, lava_add_sources])
def test_without_apt_nothing_is_done_and_said(
    manager: str | None, command: Any, system: System, context: Any
) -> None:
    if manager:
        system.program(manager)
    assert command.run(["abc"], context) == OK
    assert system.calls() == []
    (warning,) = context.warnings
    assert "no apt" in warning


# lava-add-sources


@pytest.fixture
def sources(system: System, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = system.folder / "lavabox.list"
    monkeypatch.setattr(lava_add_sources, "PATH", str(path))
    system.program("apt-get")
    return path


def test_sources_are_added_once(sources: Path, system: System, context: Any) -> None:
    lines = [
        "http://h/debian stable main contrib",
        "deb [trusted=yes] http://h/x ./",
        "deb-src http://h/x s m",
    ]
    for _ in range(2):
        assert lava_add_sources.run(lines, context) == OK
    assert sources.read_text() == f"deb {lines[0]}\n{lines[1]}\n{lines[2]}\n"
    assert system.calls() == [["apt-get", "-q", "update"]] * 2


def test_archives_take_a_program(sources: Path, system: System, context: Any) -> None:
    with pytest.raises(CommandError, match="needs add-apt-repository") as caught:
        lava_add_sources.run(["ppa:a/b"], context)
    assert caught.value.status == NO
    system.program("add-apt-repository")
    assert lava_add_sources.run(["ppa:a/b"], context) == OK
    assert system.calls() == [["add-apt-repository", "-y", "ppa:a/b"], ["apt-get", "-q", "update"]]
    assert not sources.exists()
    system.program("add-apt-repository", "exit 4")
    with pytest.raises(CommandError, match="add-apt-repository ended with status 4"):
        lava_add_sources.run(["ppa:a/b"], context)


def test_lists_that_cannot_be_read(sources: Path, system: System, context: Any) -> None:
    system.program("apt-get", "exit 100")
    with pytest.raises(CommandError, match="apt-get ended with status 100") as caught:
        lava_add_sources.run(["http://h s m"], context)
    assert caught.value.status == NO


def test_options_go_to_the_program_for_archives(sources: Path, system: System, context: Any) -> None:
    system.program("apt-get")
    assert lava_add_sources.run(["--no-update", "http://h s m"], context) == OK
    assert "--no-update" in context.warnings[0]
    assert sources.read_text() == "deb http://h s m\n"
    system.program("add-apt-repository")
    assert lava_add_sources.run(["-n", "ppa:a/b"], context) == OK
    assert system.calls()[-1] == ["add-apt-repository", "-y", "-n", "ppa:a/b"]
    assert lava_add_sources.run([], context) == OK
    assert "no source" in context.warnings[-1]


@pytest.mark.parametrize("arguments", [[""], [" "], ["http://h s\nm"]])
def test_what_is_no_source(arguments: list[str], sources: Path, system: System, context: Any) -> None:
    with pytest.raises(UsageError):
        lava_add_sources.run(arguments, context)
    assert not sources.exists()


# lava-os-build


@pytest.mark.parametrize(
    ("release", "printed"),
    [
        (DEBIAN, "Debian GNU/Linux 12 (bookworm)"),
        ('NAME=\'Poky (Yocto)\'\nVERSION="4.0 \\"k\\""\n', 'Poky (Yocto) 4.0 "k"'),
        ("NAME=Plain\n", "Plain"),
        ('PRETTY_NAME="caf\xe9 \\$5"\n', "caf\xe9 $5"),
    ],
)
def test_os_build(release: str, printed: str, system: System, context: Any) -> None:
    system.release(release)
    assert lava_os_build.run([], context) == OK
    assert context.written.decode() == printed + "\n"


def test_os_build_of_a_system_that_does_not_say(
    system: System, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = system.folder / "issue"
    issue.write_text("Ancient Linux 1.0 \\n \\l\n\n")
    monkeypatch.setattr(distributions, "OTHER_NAMES", (str(system.folder / "missing"), str(issue)))
    assert lava_os_build.run([], context) == OK
    assert context.written == b"Ancient Linux 1.0\n"
    issue.write_text("")
    context.written = b""
    assert lava_os_build.run([], context) == OK
    assert context.written.decode() == f"Linux {os.uname().release} {os.uname().machine}\n"


@pytest.mark.parametrize("command", [lava_os_build, lava_installed_packages])
def test_they_ignore_arguments(command: Any, system: System, context: Any) -> None:
    system.program("apt-get")
    system.program("dpkg-query")
    assert command.run(["x", "--y"], context) == OK
    assert context.warnings == ["ignored: 'x', '--y'"]
