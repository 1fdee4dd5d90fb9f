# SPDX-License-Identifier: MIT
"""The box from inside: which command is meant, and how commands end."""

import os
import posix
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit import VERSION, cli
from toolkit.commands import COMMANDS, SOURCED, lava_common_functions, lava_self
from toolkit.wire.vocabulary import LINK_FAILED, USAGE, CommandError, UsageError

ROOT = Path(__file__).parents[2]
NAMES = sorted(COMMANDS)
# Those that --install makes links for.
LINKS = [name for name in NAMES if name != SOURCED]


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """main() sets handlers, for a process of its own."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    old = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, old, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def end_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | int], None]:
    """Makes lava-self end in the way given."""

    def replace(end: BaseException | int) -> None:
        def run(arguments: list[str], context: object) -> int:
            if isinstance(end, BaseException):
                raise end
            return end

        monkeypatch.setattr(lava_self, "run", run)

    return replace


# Which command is meant


@pytest.mark.parametrize(
    "argv", [["lava-self"], ["/usr/bin/lava-self"], ["lavabox", "lava-self"], ["../x", "lava-self"]]
)
def test_a_command_is_found_by_name_and_by_argument(
    argv: list[str], end_with: Callable[[BaseException | int], None]
) -> None:
    end_with(42)
    assert cli.main(argv) == 42


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["lavabox", "lava-nope"], "lava-nope"),
        (["lavabox", "self"], "self"),
        (["lavabox", ""], ""),
        (["lavabox", "lava-self/"], "lava-self/"),
        (["/bin/lava-nope"], "lava-nope"),
        (["/bin/lava-nope", "lava-self"], "lava-nope"),
        (["lava-"], "lava-"),
    ],
)
def test_an_unknown_name_exits_127_and_says_how_to_list_them(
    argv: list[str], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 127
    captured = capfd.readouterr()
    assert captured.out == ""
    assert f"'{name}'" in captured.err
    assert "lavabox --list" in captured.err
    assert len(captured.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lava-snyc", "lava-sync"),
        ("lava-wait-al", "lava-wait-all"),
        ("lava_test_case", "lava-test-case"),
        ("LAVA-SELF", "lava-self"),
        ("self", "lava-self"),
        ("grup", "lava-group"),
        ("lava-tst-case", "lava-test-case"),
        ("lava-nothing-alike", ""),
        ("x" * 10_000, ""),
    ],
)
def test_the_command_that_was_meant_is_named(
    name: str, meant: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["lavabox", name]) == 127
    error = capfd.readouterr().err
    assert f"did you mean {meant}?" in error if meant else "mean" not in error
    assert len(error) < 200


@pytest.mark.parametrize(
    ("argv", "arguments"),
    [
        (["lava-self", "a\r", "b"], ["a", "b"]),
        (["lava-self", "\r"], []),
        (["lava-self\r"], []),
        (["lavabox", "lava-self\r", "k=v\r\r"], ["k=v"]),
        (["lava-self", "a\rb", ""], ["a\rb", ""]),
    ],
)
def test_a_carriage_return_at_the_end_of_a_word_is_dropped(
    argv: list[str], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(lava_self, "run", lambda words, context: given.append(words) or 0)
    assert cli.main(argv) == 0
    assert given == [arguments]


def test_also_of_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setitem(posix.environ, b"LAVA_WAIT_TIMEOUT", b"5\r")
    monkeypatch.setattr(lava_self, "run", lambda words, context: given.append(context.environ) or 0)
    assert cli.main(["lava-self"]) == 0
    assert given[0]["LAVA_WAIT_TIMEOUT"] == "5"  # type: ignore[index]


def test_in_a_set_user_id_program_the_variables_of_its_user_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LAVA_MULTI_NODE_CACHE=/etc/passwd would be written to."""
    given: list[Any] = []
    monkeypatch.setitem(posix.environ, b"LAVA_MULTI_NODE_CACHE", b"/etc/passwd")
    monkeypatch.setattr(cli.posix, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(lava_self, "run", lambda words, context: given.append(context.environ) or 0)
    assert cli.main(["lava-self"]) == 0
    assert not [name for name in given[0] if name.startswith("LAVA_")]
    assert given[0]["PATH"] == os.environ["PATH"]


# Refusals that the dispatcher is told of


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["lava-test-case", "x", "--result", "bogus"], "lava-test-case x --result bogus"),
        (["lava-test-reference", "x", "--result", "pass"], "lava-test-reference x --result pass"),
        (["lava-test-set", "begin"], "lava-test-set begin"),
        (["lava-test-raise"], "lava-test-raise"),
        (["lava-send", "two words"], "lava-send two words"),
        (["lava-wait", "--timeout", "soon", "x"], "lava-wait --timeout soon x"),
        (["lava-network", "shout"], "lava-network shout"),
        (["lava-background-process-start"], None),
    ],
)
@pytest.mark.parametrize("answers", [True, False])
def test_a_command_that_is_refused_is_told_of(
    answers: bool,
    argv: list[str],
    told: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from toolkit import context

    asked: list[Any] = []

    def request(self: object, *arguments: object) -> list[Any]:
        asked.append(arguments)
        if not answers:
            raise CommandError(USAGE, "this dispatcher knows no operation 'refused'")
        return []

    monkeypatch.setattr(context.Context, "request", request)
    assert cli.main(argv) == 2
    error = capfd.readouterr().err
    assert "knows no operation" not in error
    if told is None:
        assert asked == []
    else:
        ((operation, line, reason),) = asked
        assert (operation, line) == ("refused", told.encode())
        assert f"{argv[0]}: {reason}\n" in error


@pytest.mark.parametrize("name", ["sim", "serve"])
def test_a_command_of_the_host_is_explained(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lavabox", name, "--role", "x=y"]) == 127
    assert f"'{name}' runs on the lab's host" in capfd.readouterr().err


def test_list(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lavabox", "--list"]) == 0
    assert capfd.readouterr().out.splitlines() == NAMES


@pytest.mark.parametrize("arguments", [[], ["--nope"], ["-s"], ["--list", "all"], ["--"]])
def test_wrong_use_of_the_box(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lavabox", *arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "usage: lavabox" in captured.err


def test_help_of_the_box_names_each_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lavabox", "--help"]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    assert re.findall(r"(?m)^  (lava-\S+)  +\S.*$", captured.out) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_help_and_version_of_each_command(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    usage = capfd.readouterr().out
    assert cli.main([name, "-h"]) == 0
    assert capfd.readouterr().out == usage
    assert cli.main([name, "--help"]) == 0
    assert capfd.readouterr().out.startswith(f"usage: {'. ' if name == SOURCED else ''}{name}")
    assert cli.main(["lavabox", name, "--version"]) == 0
    assert capfd.readouterr() == (f"{name} (lavabox) {VERSION}\n", "")


def test_version_of_the_box(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["box", "--version"]) == 0
    assert capfd.readouterr().out == f"lavabox {VERSION}\n"


# How commands end


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        (0, 0, ""),
        (1, 1, ""),
        (CommandError(LINK_FAILED, "the line is cut"), 75, "lava-self: the line is cut\n"),
        (
            OSError(28, "No space left on device"),
            1,
            "lava-self: failed: No space left on device\n",
        ),
        (BrokenPipeError(32, "Broken pipe"), 1, "lava-self: failed: Broken pipe\n"),
        (
            BlockingIOError(11, "Resource temporarily unavailable"),
            75,
            "lava-self: no process can be started: too many are running\n",
        ),
        (
            UsageError("that is wrong"),
            2,
            "lava-self: that is wrong\nusage: lava-self\nTry `lava-self --help`.\n",
        ),
    ],
    ids=["yes", "no", "link failed", "full", "pipe", "processes", "usage"],
)
def test_ends(
    end: BaseException | int,
    status: int,
    said: str,
    end_with: Callable[[BaseException | int], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    end_with(end)
    assert cli.main(["lava-self"]) == status
    assert capfd.readouterr() == ("", said)


def test_an_interruption_is_told_and_passed_on(
    end_with: Callable[[BaseException | int], None], capfd: pytest.CaptureFixture[str]
) -> None:
    end_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        cli.main(["lava-self"])
    assert capfd.readouterr() == ("", "lava-self: interrupted\n")


def test_sigterm_cleans_up_on_the_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from toolkit import context

    def told_to_end(self: object, *request: object) -> list[object]:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached")

    monkeypatch.setattr(context.Context, "request", told_to_end)
    monkeypatch.setitem(posix.environ, b"LAVA_MULTI_NODE_CACHE", os.fsencode(tmp_path / "cache"))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit) as caught:
        cli.main(["lava-wait", "ready"])
    assert caught.value.code == 128 + signal.SIGTERM
    assert [path.read_text() for path in tmp_path.iterdir()] == [""]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert cli.main(["lavabox", "--list"]) == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


# Standard files that are closed or full


def shell(command: str, box: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", command, "sh", sys.executable, box], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("redirection", "status"),
    [
        ("--list >&-", 1),
        ("--list >/dev/full", 1),
        ("--help >/dev/full", 1),
        ("--version >/dev/full 2>&1", 1),
        ("--list >&- 2>&-", 1),
        ("--list <&-", 0),
        ("--list 2>&-", 0),
        ("--nope 2>&-", 2),
        ("--nope 2>/dev/full", 2),
        ("lava-nope 2>/dev/full", 127),
        ("lava-send <&- >&- 2>&-", 2),
    ],
)
@pytest.mark.parametrize("start", ['"$2"', '"$1" "$2"'], ids=["header", "python"])
def test_an_answer_that_cannot_be_written_is_no_success(
    start: str, redirection: str, status: int, box: Path
) -> None:
    result = shell(f"{start} {redirection}", box)
    assert result.returncode == status
    assert "Traceback" not in result.stderr
    if status == 1 and "2>" not in redirection:
        assert "lavabox: failed: " in result.stderr


# --install


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    return directory


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def local_box(box: Path, tmp_path: Path) -> Path:
    """A box on the file system of the directory, which hard links need."""
    copy = tmp_path / "lavabox"
    copy.write_bytes(box.read_bytes())
    copy.chmod(0o755)
    return copy


@pytest.mark.parametrize("options", [[], ["-s"]])
def test_install_links_every_command_and_again(
    options: list[str], local_box: Path, bin_directory: Path
) -> None:
    for _ in range(2):
        result = subprocess.run(
            [local_box, "--install", *options, bin_directory], capture_output=True, text=True
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        assert names_in(bin_directory) == NAMES
    for name in LINKS:
        assert (bin_directory / name).is_symlink() == bool(options)
        assert (bin_directory / name).samefile(local_box)
    # The names say what it is; how they came there makes no difference.
    for name in LINKS[:3] if options else LINKS:
        version = subprocess.run([bin_directory / name, "--version"], capture_output=True, text=True)
        assert version.stdout == f"{name} (lavabox) {VERSION}\n"


def test_install_replaces_links_of_the_other_kind(local_box: Path, bin_directory: Path) -> None:
    subprocess.run([local_box, "--install", bin_directory], check=True)
    subprocess.run([local_box, "--install", "-s", bin_directory], check=True)
    assert all((bin_directory / name).is_symlink() for name in LINKS)
    subprocess.run([local_box, "--install", bin_directory], check=True)
    assert not any((bin_directory / name).is_symlink() for name in LINKS)
    assert names_in(bin_directory) == NAMES


def test_links_beside_the_box_are_relative(local_box: Path) -> None:
    """So they hold in an image that was mounted somewhere when they were made."""
    subprocess.run([local_box, "--install", "-s", local_box.parent], check=True)
    assert os.readlink(local_box.parent / "lava-self") == "lavabox"


def test_install_by_a_relative_path(local_box: Path, bin_directory: Path) -> None:
    subprocess.run(["./lavabox", "--install", "-s", "bin"], cwd=local_box.parent, check=True)
    assert os.readlink(bin_directory / "lava-self") == "../lavabox"


@pytest.mark.parametrize("folder", ["usr/bin", "usr/local/sbin", "bin"])
@pytest.mark.parametrize("options", [[], ["-s"]])
def test_install_into_an_image_from_outside(
    options: list[str], folder: str, local_box: Path, tmp_path: Path
) -> None:
    """A link to the host's file would lead nowhere on the device."""
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / folder).mkdir(parents=True)
    for _ in range(2):
        result = subprocess.run(
            [local_box, "--install", *options, image / folder], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        assert "is a copy of the box" in result.stderr
    copy = image / folder / "lavabox"
    assert copy.read_bytes() == local_box.read_bytes() and not copy.samefile(local_box)
    assert all((image / folder / name).samefile(copy) for name in LINKS)
    if options:
        assert {os.readlink(image / folder / name) for name in LINKS} == {"lavabox"}


def test_install_in_an_image_that_has_the_box(local_box: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    for folder in ("usr/lib/lavabox", "usr/bin"):
        (image / folder).mkdir(parents=True)
    inside = image / "usr/lib/lavabox/lavabox"
    inside.write_bytes(local_box.read_bytes())
    inside.chmod(0o755)
    subprocess.run([inside, "--install", "-s", image / "usr/bin"], check=True)
    assert os.readlink(image / "usr/bin/lava-self") == "../lib/lavabox/lavabox"
    assert names_in(image / "usr/bin") == NAMES


def test_hard_links_are_to_the_box_and_not_to_a_link_to_it(local_box: Path, bin_directory: Path) -> None:
    link = local_box.with_name("link")
    link.symlink_to(local_box.name)
    subprocess.run([link, "--install", bin_directory], check=True)
    assert not any((bin_directory / name).is_symlink() for name in LINKS)
    assert all((bin_directory / name).samefile(local_box) for name in LINKS)


@pytest.mark.parametrize("options", [[], ["-s"]])
def test_install_updates_links_to_an_older_box(
    options: list[str], local_box: Path, bin_directory: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    older.write_bytes(local_box.read_bytes() + b"older")
    older.chmod(0o755)
    (bin_directory / "lava-self").hardlink_to(older)
    (bin_directory / "lava-send").symlink_to(older)
    (bin_directory / "lava-wait").symlink_to(tmp_path / "moved" / "lavabox")
    subprocess.run([local_box, "--install", *options, bin_directory], check=True)
    assert all((bin_directory / name).samefile(local_box) for name in LINKS)


@pytest.mark.parametrize("old", [None, "#!/bin/sh\n# lavabox: of an older box\n", "link"])
def test_install_writes_what_shells_source(old: str | None, local_box: Path, bin_directory: Path) -> None:
    path = bin_directory / SOURCED
    if old == "link":
        path.symlink_to(local_box)
    elif old is not None:
        path.write_text(old)
    subprocess.run([local_box, "--install", "-s", bin_directory], check=True)
    assert path.read_text() == lava_common_functions.TEXT
    assert not path.is_symlink()
    assert os.access(path, os.X_OK)
    assert local_box.read_bytes().startswith(b"#!/bin/sh\n# lavabox: the lava-* commands")


@pytest.mark.parametrize("options", [[], ["-s"]])
def test_install_leaves_foreign_files_and_says_so(
    options: list[str], local_box: Path, bin_directory: Path
) -> None:
    (bin_directory / "lava-send").write_text("#!/bin/sh\n# LAVA's own\n")
    (bin_directory / "lava-wait").mkdir()
    (bin_directory / "lava-sync").symlink_to("/bin/sh")
    (bin_directory / "lava-role").symlink_to("/nowhere/other")
    (bin_directory / "lava-self").touch()
    result = subprocess.run([local_box, "--install", *options, bin_directory], capture_output=True, text=True)
    assert result.returncode == 1
    foreign = ["lava-role", "lava-self", "lava-send", "lava-sync", "lava-wait"]
    assert [line.split()[1].rsplit("/", 1)[1] for line in result.stderr.splitlines()] == foreign
    assert (bin_directory / "lava-send").read_text() == "#!/bin/sh\n# LAVA's own\n"
    assert os.readlink(bin_directory / "lava-sync") == "/bin/sh"
    assert os.readlink(bin_directory / "lava-role") == "/nowhere/other"
    assert (bin_directory / "lava-group").samefile(local_box)
    assert names_in(bin_directory) == NAMES


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "argument is missing"),
        (["a", "b"], 2, "too many"),
        (["-x", "a"], 2, "unknown option"),
        (["missing"], 1, "not a directory"),
        (["lavabox"], 1, "not a directory"),
        ([""], 2, "is empty"),
    ],
)
def test_install_needs_a_directory(arguments: list[str], status: int, said: str, local_box: Path) -> None:
    result = subprocess.run(
        [local_box, "--install", *arguments], cwd=local_box.parent, capture_output=True, text=True
    )
    assert result.returncode == status
    assert said in result.stderr


@pytest.mark.parametrize("number", [18, 1])
def test_where_hard_links_cannot_be_made_it_names_the_option(
    number: int,
    local_box: Path,
    bin_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def link(source: str, target: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    assert (
        cli.main(
            [str(local_box), "--install", str(bin_directory)],
            SimpleNamespace(path=str(local_box), version=""),
        )
        == 1
    )
    assert capfd.readouterr().err.endswith(": use -s\n")
    assert names_in(bin_directory) == []


def test_without_the_zipapp_there_is_nothing_to_install(
    bin_directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["lavabox", "--install", str(bin_directory)]) == 1
    assert "build_zipapp.py" in capfd.readouterr().err
    assert names_in(bin_directory) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_variables_of_somebody_with_fewer_rights_have_no_effect() -> None:
    """As of a set-user-id program: by the long way, and by the agent, which is not asked."""
    script = (
        "import os; os.setresuid(65534, 0, 0)\n"
        "from toolkit import call, thin\n"
        "print(call.environment({b'LAVA_CONSOLE': b'/x', b'A': b'b'}), thin.run(None))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "{'A': 'b'} (None, None)\n"
