# SPDX-License-Identifier: MIT
"""Commands that the agent computes, beside the same ones by the long way: nobody can tell them apart.

`thin` is a box of which only the beginning is left: by the long way it can do nothing. `long` is another version of
the box, for which this one's agent does nothing but to pass requests on.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
from pathlib import Path

import pytest

import build_zipapp
from dispatcher.group.events import Reported, Sent
from tests.consoles import PATIENCE, Board, Lab, eventually
from tests.toolkit.conftest import interpreters
from toolkit.commands import COMMANDS
from toolkit.thin import print_all

WAYS = ("thin", "long")


@pytest.fixture(scope="module")
def ways(box: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with the commands for each way."""
    folder = tmp_path_factory.mktemp("ways")
    thin = folder / "thin-box"
    content = box.read_bytes()
    thin.write_bytes(content[: content.index(b"inflate.py")])
    thin.chmod(0o755)
    toolkit = folder / "toolkit"
    shutil.copytree(build_zipapp.TOOLKIT, toolkit)
    (toolkit / "__init__.py").write_text('VERSION = "0.1.other"\nBUILD = b""\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_zipapp, "TOOLKIT", toolkit)
        boxes = {"thin": thin, "long": build_zipapp.build(folder / "long-box")}
    for way, path in boxes.items():
        (folder / way).mkdir()
        for command in COMMANDS:
            (folder / way / command).symlink_to(path)
    return {way: folder / way for way in WAYS}


def by(way: Path, script: str) -> str:
    """The script, with an agent there, and the commands of that way."""
    return f"lava-self >/dev/null; export WHOLE=$(command -v lava-self) PATH={way}:$PATH\n{script}"


# Each prints what is to be the same. The agent is there; `b` has sent id m with k=v.
SCRIPTS = {
    "answers": "lava-self; lava-role; lava-role list; lava-group; lava-group client; lava-group nobody; echo $?",
    "help": "lava-wait --help; lava-self -h; lava-test-case --help | head -2",
    "wrong use": "lava-send; echo $?; lava-wait 'a b'; echo $?; lava-test-case x --result bogus; echo $?",
    "warnings": "lava-self x; lava-send id no-pair; lava-role list y",
    "refusals": "lava-wait-all m nobody; echo $?; lava-wait never --timeout 0.2; echo $?; lava-test-set stop; echo $?",
    "results": "lava-test-case ok --result pass; lava-test-set start s; lava-test-case x --result fail --units m"
    " --measurement 1.50; lava-test-set stop; lava-test-reference r --result skip --reference http://x",
    "bytes": r"""lava-send z "k=$(printf 'caf\351 \377')"; lava-send z e= 's=a=b c>%d\"'; lava-group "$(printf '\377')" """,
    "carriage returns": "lava-self $(printf '\\r'); lava-wait $(printf 'm\\r'); cat cache",
    "waits": "lava-wait m; cat cache; lava-wait-all m client; cat cache; LAVA_MULTI_NODE_CACHE_PREFIX=1 lava-wait m; cat cache",
    "a wait that fails": "lava-wait m; lava-wait never --timeout 0.2; echo $?; cat cache",
    "other cache files": "mkdir d; for f in d/x ./y ../a/z; do LAVA_MULTI_NODE_CACHE=$f lava-wait m; done; cat d/x y z;"
    " LAVA_MULTI_NODE_CACHE=/nowhere/x lava-wait m; echo $?; LAVA_MULTI_NODE_CACHE=d lava-wait m; echo $?",
    "a device for a cache file": "LAVA_MULTI_NODE_CACHE=/dev/null lava-wait m; echo $?; test -c /dev/null; echo $?",
    "a cache file that is a link": "echo old >o; ln -s o cache; lava-wait m; cat cache o; test -h cache; echo $?",
    "a cache file behind a link": "mkdir d; ln -s d l; LAVA_MULTI_NODE_CACHE=l/c lava-wait m; cat d/c",
    "a FIFO for a cache file": "rm -f cache; mkfifo cache; lava-wait m; echo $?; test -p cache; echo $?",
    "umask": "umask 077; lava-wait m; stat -c %a cache; umask 0; lava-wait m; stat -c %a cache",
    "closed streams": "lava-self >&-; echo $?; lava-self <&-; lava-self 2>&-; lava-send <&- 2>&-; echo $?; lava-self <&- >&- 2>&-; echo $?",
    "a full disk": "lava-self >/dev/full; echo $?; lava-group 2>&1 >/dev/full | cat; lava-send 2>/dev/full; echo $?",
    "a reader that is gone": "{ lava-group; echo $? >&2; } | true",
    "limits": "(ulimit -f 0; trap '' XFSZ; lava-wait m; echo $?); (ulimit -n 3; lava-self 2>/dev/null || echo no)",
    "limits that leave room": "(ulimit -n 10; ulimit -v 400000; ulimit -t 5; lava-wait m; cat cache)",
    "nowhere": "mkdir gone; cd gone; rmdir ../gone; lava-self; lava-wait m; cat $LAVA_MULTI_NODE_CACHE",
    "in the background": "lava-self >out & wait $!; echo $?; cat out",
    "through env": "env -i PATH=$PATH $(command -v lava-self); env -i $(command -v lava-self)",
    "as an argument of the box": "$(readlink $(command -v lava-self)) lava-group",
    "from elsewhere": "lava-self </dev/null 2>/dev/null | cat",
    "a console by name": "t=$(tty); LAVA_CONSOLE=$t lava-self; LAVA_CONSOLE=${t#/dev/} lava-self; LAVA_CONSOLE=off lava-self; echo $?",
    "another console": "LAVA_CONSOLE=/dev/null lava-self 2>/dev/null; echo $?",
    "other locales": "for l in C POSIX C.UTF-8 xx; do LC_ALL=$l lava-send 'é e'; LC_ALL=$l lava-group é; done",
}
# The same for root, who can have surroundings of his own. (Another user starts the agent first, and is let into the
# folders of this test.)
ANOTHER_USER = (
    "setpriv --reuid 65532 --regid 65533 --clear-groups --inh-caps +dac_override --ambient-caps +dac_override"
)
FOR_ROOT = {
    "another user": f"{ANOTHER_USER} sh -c '$WHOLE; lava-wait m; lava-self; stat -c %u:%g cache; id -u'",
    "another group": "echo >cache; setpriv --regid 65532 --clear-groups lava-wait m; stat -c %u:%g cache",
    "another mount name space": "mkdir d; unshare --mount sh -c 'mount -t tmpfs none d; cd d; lava-self;"
    " LAVA_MULTI_NODE_CACHE=c lava-wait m; cat c'; test -e d/c; echo $?",
    "another process name space": "unshare --pid --fork --mount-proc sh -c 'lava-self; lava-wait m; cat cache'",
    "a console by its short name": "mkdir d; unshare --mount sh -c 'tty=$(tty); mount --bind /dev/pts d; mount -t tmpfs none /dev;"
    " mkdir /dev/pts; mount --bind d /dev/pts; ln -s $tty /dev/ttyX; LAVA_CONSOLE=ttyX lava-self'",
    "another network name space": "unshare --net sh -c 'lava-self; lava-send x k=v; lava-wait m; cat cache'",
    "another user name space": "unshare --user --map-root-user sh -c 'lava-self; lava-send x k=v; lava-wait m; cat cache'",
    "a read-only root": "unshare --mount sh -c 'mount -o remount,bind,ro /; lava-self; lava-send x k=v; lava-wait m;"
    " mount -t tmpfs none /mnt; LAVA_MULTI_NODE_CACHE=/mnt/c lava-wait m; cat /mnt/c'",
    "no /proc": "unshare --mount sh -c 'umount -l /proc; test -e /proc/self; echo $?; lava-self; lava-send x k=v;"
    " lava-wait m; cat cache'",
    "no /proc, and no agent": "unshare --mount --net sh -c 'umount -l /proc; lava-self; lava-send x k=v; lava-wait m; cat cache'",
}
# What a box without its second half cannot say: that is for the long way.
FOR_THE_LONG_WAY = {
    *("a cache file that is a link", "a cache file behind a link", "a FIFO for a cache file", "limits"),
    *(
        "a device for a cache file",
        "other cache files",
        "closed streams",
        "a full disk",
        "a reader that is gone",
    ),
    *("a console by name", "another console", "through env"),
    *("another network name space", "another user name space", "a read-only root", "no /proc, and no agent"),
}


@pytest.mark.parametrize("name", [*SCRIPTS, *FOR_ROOT])
def test_both_ways_are_the_same(name: str, box: Path, ways: dict[str, Path], tmp_path: Path) -> None:
    if name in FOR_ROOT and os.geteuid() != 0:
        pytest.skip("makes name spaces, and becomes somebody else")
    script = {**SCRIPTS, **FOR_ROOT}[name]
    printed = {}
    for way, commands in {"whole": None, **ways}.items():
        if way == "thin" and name in FOR_THE_LONG_WAY:
            continue
        (tmp_path / way).mkdir()
        with Lab(box, tmp_path / way, {"a": "server", "b": "client"}) as lab:
            assert lab["b"].run("lava-send m k=v") == 0
            status = lab["a"].run(by(commands or lab.commands, f"{script}\necho end"))
            lab["a"].until_printed("end\r\n")
            sent = [event.data for event in lab.events(Sent)]  # type: ignore[attr-defined]
            output = lab["a"].output.replace(bytes(tmp_path / way), b"").replace(b"0.1.other", b"0.1.0")
            printed[way] = (status, output, sent, len(lab.events(Reported)))
            assert lab["a"].echoes
    assert printed["long"] == printed["whole"]
    assert printed.get("thin", printed["whole"]) == printed["whole"]
    assert b"Traceback" not in printed["whole"][1]


def test_a_full_pipe_that_does_not_block_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By both ways: this is what prints."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    printed = bytearray()

    def drain(readable: list[int], writable: list[int], failed: list[int]) -> None:
        assert (readable, writable, failed) == ([], [1], [])
        printed.extend(os.read(reader, 1 << 20))

    monkeypatch.setattr(select, "select", drain)
    stdout = os.dup(1)
    os.dup2(writer, 1)
    try:
        print_all(b"0123456789" * 50000)
    finally:
        os.dup2(stdout, 1)
        for descriptor in (stdout, writer):
            os.close(descriptor)
    with open(reader, "rb") as rest:
        assert bytes(printed) + rest.read() == b"0123456789" * 50000


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c(way: str, lab: Lab, board: Board, ways: dict[str, Path]) -> None:
    process = board.start(by(ways[way], "trap 'echo trapped' INT; lava-wait go; echo $?; cat cache"))
    lab.until_waiting("go")
    board.type(b"\x03")
    assert process.wait(PATIENCE) == 0
    board.until_printed("130\r\n")
    assert board.output.replace(b"^C", b"") == b"lava-wait: interrupted\r\ntrapped\r\n130\r\n"
    assert lab.open_waits() == [] and board.echoes


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_the_script(way: str, shell: str, lab: Lab, board: Board, ways: dict[str, Path]) -> None:
    process = board.start(by(ways[way], f"{shell} -c 'lava-wait go; echo went on'; echo status $?"))
    lab.until_waiting("go")
    board.type(b"\x03")
    process.wait(PATIENCE)
    assert b"interrupted" in board.output and b"went on" not in board.output
    assert lab.open_waits() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_told_to_end(number: signal.Signals, way: str, lab: Lab, board: Board, ways: dict[str, Path]) -> None:
    process = board.start(by(ways[way], "lava-wait go; echo $?"))
    lab.until_waiting("go")
    (command,) = board.commands("lava-wait")
    os.kill(command, number)
    assert process.wait(PATIENCE) == 0
    board.until_printed(f"{128 + number}\r\n")
    lab.wait_for(lambda: lab.open_waits() == [], "the end of the wait")
    eventually(lambda: board.echoes, "the echo")


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_z(way: str, lab: Lab, board: Board, ways: dict[str, Path]) -> None:
    """The shell finds its console as it was, and the wait goes on in the end."""
    script = "set -m; lava-wait go; stty -a | grep -c -w -e '-echo'; echo stopped; fg >/dev/null; echo $?; cat cache"
    process = board.start(by(ways[way], script), shell="bash")
    lab.until_waiting("go")
    board.type(b"\x1a")
    board.until_printed("stopped\r\n")
    assert b"0\r\nstopped" in board.output
    assert lab["b"].run("lava-send go k=v") == 0
    assert process.wait(PATIENCE) == 0
    board.until_printed("0\r\nk=v\r\n")


@pytest.mark.parametrize("way", WAYS)
def test_an_agent_that_is_killed_in_the_middle(
    way: str, box: Path, lab: Lab, board: Board, ways: dict[str, Path]
) -> None:
    """The whole box goes the long way then, and nothing is done twice."""
    commands = ways["long"] if way == "long" else lab.commands
    process = board.start(by(commands, "lava-sync go; echo $?; cat cache"))
    lab.until_waiting("go")
    (agent,) = board.agents()
    os.kill(agent, signal.SIGKILL)
    eventually(lambda: agent not in board.agents() and len(board.agents()) == 1, "another agent")
    assert lab["b"].run("lava-sync go") == 0
    assert process.wait(PATIENCE) == 0
    board.until_printed("0\r\n")
    assert lab.open_waits() == []
    assert len(lab.group.log) == len({repr(event) for event in lab.group.log})
    assert board.echoes


def test_an_agent_of_another_python(lab: Lab, board: Board) -> None:
    """Its greeting is of no use: the command goes the long way, and asks it all the same."""
    others = [path for path in interpreters().values() if path != Path(sys.executable).resolve()]
    if not others:
        pytest.skip("there is one Python only")
    lab["b"].run("lava-send m k=v")
    assert board.run(f"LAVABOX_PYTHON={others[0]} lava-self; lava-self; lava-wait m; cat cache") == 0
    board.until_printed("a\r\na\r\nk=v\r\n")
    assert len(board.agents()) == 1
