# SPDX-License-Identifier: MIT
"""What is read from shell text: calls, and what is left open about them."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.jobs.model import Place, Step
from dispatcher.jobs.text import MAX_CHARACTERS, UNKNOWN, Text, known
from dispatcher.plan.calls import Call, DeviceNames, Item, ScriptFile, Unread, Work
from dispatcher.plan.programs import source_of
from dispatcher.plan.shell.builtins import OF_THE_BOX
from dispatcher.plan.shell.reading import read_script
from toolkit.commands import COMMANDS

GROUP = (("server-1", "server"), ("client-1", "client"), ("client-2", "client"))


def read(
    script: str,
    device: str = "server-1",
    files: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
) -> list[Item]:
    def read_file(path: str) -> ScriptFile | None:
        return ScriptFile(path, files[path]) if files and path in files else None

    names = DeviceNames(device, dict(GROUP)[device], GROUP)
    steps = [Step(script, Place("test.yaml", 10))]
    return read_script(source_of(steps), names, read_file, parameters or {}, {}, [])


def shown(items: list[Item]) -> list[str]:
    """The items as lines: calls with what is open about them."""
    lines = []
    for item in items:
        if isinstance(item, Call):
            marks = [mark for mark in ("perhaps", "repeatedly", "background", "timed") if getattr(item, mark)]
            lines.append(" ".join([item.text, *(f"[{mark}]" for mark in marks)]))
        else:
            lines.append(f"{type(item).__name__.lower()}: {item.text}")
    return lines


FORMS = {
    # plain calls
    "pairs": ("lava-send up a=1 b='two words' \"c=$(date)\"", ["lava-send up a=1 b=two words c=*"]),
    "options": ("lava-wait --timeout 5 x; lava-wait-all --timeout=3 y r", ["lava-wait --timeout 5 x [timed]"]),
    "options of ours": (
        "lava-wait --any a b --timeout 5; lava-wait --next c; lava-sync --role client d; lava-sync --count=2 e\n"
        "lava-wait-all --device x --device=y f; lava-group --state",
        [
            *("lava-wait --any a b --timeout 5 [timed]", "lava-wait --next c", "lava-sync --role client d"),
            *("lava-sync --count=2 e", "lava-wait-all --device x --device=y f"),
        ],
    ),
    "locks": (
        "lava-lock p; lava-unlock p; lava-lock q -- lava-wait a; lava-lock --timeout 3 r -- 'lava-send b; run'",
        [
            *("lava-lock p", "lava-unlock p", "lava-lock q -- lava-wait a", "lava-wait a", "lava-unlock q"),
            *("lava-lock --timeout 3 r -- lava-send b; run [timed]", "lava-send b", "lava-unlock r"),
        ],
    ),
    "network": (
        "lava-network broadcast eth0\nlava-network collect eth0 client\nlava-network query $(lava-self) ipv4",
        ["lava-network broadcast eth0", "lava-network collect eth0 client"],
    ),
    "no call": ("echo lava-send x; grep lava-wait log # lava-sync y\n: 'lava-send q'", []),
    "heredoc": ("cat <<EOF\nlava-send no\n$(lava-send yes)\nEOF", ["lava-send yes"]),
    # inside other commands
    "test case": ("lava-test-case up --shell lava-sync up", ["lava-sync up"]),
    "test case text": ("lava-test-case up --shell 'lava-wait a && lava-send b'", ["lava-wait a", "lava-send b"]),
    "substitution": ("x=$(lava-wait a; cat file) y=`lava-send b`", ["lava-wait a", "lava-send b"]),
    "pipe": ("lava-wait a | tee log", ["lava-wait a"]),
    "subshell": ("(lava-wait a; exit 1); lava-send b", ["lava-wait a", "lava-send b"]),
    "background": ("lava-wait a &\nlava-send b", ["lava-wait a [background]", "lava-send b"]),
    "runners": (
        "sudo -u root env A=b lava-send a; timeout -k 1 9 lava-wait b; exec lava-send c; lava-send d",
        ["lava-send a", "lava-wait b [timed]", "lava-send c"],
    ),
    "sh -c": ("sh -ec 'lava-send $1' name a; bash -c \"lava-wait b\"", ["lava-send a", "lava-wait b"]),
    "eval": ("c='lava-send x'; eval \"$c\"; eval $unknown", ["lava-send x", "unread: eval"]),
    "redirected": ("lava-wait a >/dev/null 2>&1", ["lava-wait a"]),
    "env -S": ("env -S 'lava-send x'", ["lava-send x"]),
    "by their path": (
        "/lava-7/bin/lava-send a; $B/lava-send b; $(command -v lava-send) c; $(dirname `which lava-send`)/lava-send d",
        ["lava-send a", "lava-send b", "lava-send c", "lava-send d"],
    ),
    "no such command": ("if ! which lava-wibble; then lava-send a; fi", ["lava-send a [perhaps]"]),
    "shifted": (
        "f() { while [ $# -gt 0 ]; do lava-send $1; shift; done; }; f a b; f $X",
        ["lava-send a", "lava-send b", "lava-send *"],
    ),
    "killed": ("lava-wait a & kill $!; lava-wait b & kill -0 $!", ["lava-wait a [background] [timed]", "lava-wait b [background]"]),
    # names that are known
    "command in a variable": ("cmd=lava-wait; ${cmd} a; cmd='lava-send b c=1'; $cmd", ["lava-wait a", "lava-send b c=1"]),
    "only in LAVA": (
        "c=lava-send\nif which \"$c\"; then $c a; else run; fi\ntype -p lava-wait && lava-wait b",
        ["lava-send a", "lava-wait b"],
    ),
    "parameters": ("lava-send $ID-${N:-7} ${E-e}", ["lava-send up-7"]),
    "self in an id": ("lava-wait for-$(lava-self)-$((1 + 2))", ["lava-wait for-server-1-3"]),
    "part is not known": ("for n in $(seq $N); do lava-send step-$n; done", ["lava-send step-* [perhaps] [repeatedly]"]),
    "replaced": ("T='a b'; lava-sync ${T// /_}-${T%% *}", ["lava-sync a_b-*"]),
    # branches by role
    "if role": (
        'if [ "$(lava-role)" = server ]; then lava-send a; else lava-wait a; fi',
        ["lava-send a"],
    ),
    "role in a variable": ("R=$(lava-role); [ $R != client ] && lava-send a; test $R = client && lava-wait a", ["lava-send a"]),
    "case role": ("case `lava-role` in client|other) lava-wait a;; s*) lava-send a;; *) lava-sync b;; esac", ["lava-send a"]),
    "case self": ("case $(lava-self) in *-2) lava-wait a;; *) lava-send b;; esac", ["lava-send b"]),
    "group": ("for d in $(lava-group client); do lava-wait hello-$d; done", ["lava-wait hello-client-1", "lava-wait hello-client-2"]),
    "role list": ("for r in `lava-role list`; do lava-sync $r; done", ["lava-sync server", "lava-sync client"]),
    "no such role": ('if [ -n "$(lava-group nobody)" ]; then lava-wait a; fi; lava-send b', ["lava-send b"]),
    # branches that are not known
    "if unknown": ("if grep -q x y; then lava-send a; else lava-send b; fi; lava-send c", ["lava-send a [perhaps]", "lava-send b [perhaps]", "lava-send c"]),
    "likely": ("if lava-wait a; then lava-send b; else lava-send c; fi", ["lava-wait a", "lava-send b", "lava-send c [perhaps]"]),
    "or exit": ("lava-wait a || exit 1; mkdir x && lava-send b", ["lava-wait a", "lava-send b"]),
    "or else": ("./setup || lava-send failed; lava-send ok", ["unread: ./setup", "work: ./setup", "lava-send failed [perhaps]", "lava-send ok"]),
    "unset": ('[ -z "$X" ] && lava-send a; [ -z "$E" ] && lava-send b', ["lava-send a [perhaps]", "lava-send b"]),
    "exit behind calls": ('if [ "$X" = y ]; then lava-wait a; exit; fi; lava-wait b', ["lava-wait a [perhaps]", "lava-wait b [perhaps]"]),
    "usage": ('if [ -z "$X" ]; then usage; exit 1; fi; lava-wait b', ["lava-wait b"]),
    "merged": ("if x; then i=a; else i=b; fi; lava-send $i; i=c; lava-send $i", ["lava-send *", "lava-send c"]),
    # loops
    "for": ("for i in 1 2; do lava-sync s$i; done", ["lava-sync s1", "lava-sync s2"]),
    "for braces": ("for i in {1..2}; do lava-sync s$i; done", ["lava-sync s1", "lava-sync s2"]),
    "c-style": ("for ((i = 0; i < 2; i++)); do lava-sync s$i; done", ["lava-sync s* [perhaps] [repeatedly]"]),
    "counted": ("i=0; while [ $i -lt 2 ]; do i=$((i + 1)); lava-sync s$i; done", ["lava-sync s1", "lava-sync s2"]),
    "endless": (
        'n=1; while true; do lava-wait m-$n; n=$((n + 1)); lava-send r-$n; done; lava-send end',
        ["lava-wait m-* [repeatedly]", "lava-send r-* [repeatedly]", "lava-send end"],
    ),
    "break": ("while true; do lava-wait a; break; done; until lava-wait b; do lava-send c; done", ["lava-wait a", "lava-wait b [repeatedly]", "lava-send c [perhaps] [repeatedly]"]),
    "condition": ("while (lava-wait a); do :; done", ["lava-wait a [repeatedly]"]),
    "read": ("cat f | while read -r i; do lava-send $i; done", ["lava-send * [perhaps] [repeatedly]"]),
    # functions, traps
    "function": ("say() { lava-send \"$1\" v=$2; return; lava-send no; }; say hello 'x y'; say bye z", ["lava-send hello v=x y", "lava-send bye v=z"]),
    "not called": ("f() { lava-send a; }\nfunction g { lava-send b; }\ng", ["lava-send b"]),
    "work": ("prepare() { mkdir x; }\nprepare\nlava-send a", ["work: prepare", "lava-send a"]),
    "trap exit": ("trap 'lava-send bye' EXIT; lava-send hi", ["lava-send hi", "lava-send bye"]),
    "trap error": ("trap 'lava-send bad' ERR INT; lava-send hi", ["lava-send hi", "lava-send bad [perhaps]"]),
    "positions": ("set -- a b; lava-send $2 n=$#; shift; lava-send $1 \"$@\"", ["lava-send b n=2", "lava-send b b"]),
    "exit": ("lava-send a; exit 0; lava-send b", ["lava-send a"]),
    # steps of a list that make one text
    "spread": ('if [ "$MODE" = both ]; then\nlava-wait a\nfi\n[ "$MODE" = none ] || lava-send b', ["lava-wait a", "lava-send b"]),
    "damaged": ("for x in $(lava-group); then\n lava-send a\nfi\nlava-send b", None),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    script, expected = FORMS[name]
    items = read(script, parameters={"ID": "up", "E": "", "MODE": "both"})
    if name == "options":
        assert shown(items) == [*(expected or []), "lava-wait-all --timeout=3 y r [timed]"]
    elif expected is None:
        assert any(isinstance(item, Call | Unread) for item in items)
    else:
        assert shown(items) == expected


def test_data_and_places() -> None:
    items = read("true\nlava-send up url='http://h/?a=1' k= word \\\n  \"m=a  b\"")
    (call,) = items
    assert isinstance(call, Call)
    assert call.place == Place("test.yaml", 11)
    pairs = [("url", "http://h/?a=1"), ("k", ""), ("m", "a  b")]
    assert call.data == tuple((known(key), known(value)) for key, value in pairs)
    assert call.dropped == (known("word"),)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("lava-send", "missing"),
        ("lava-send --now x", "unknown option"),
        ("lava-send 'a b'", "not a message id"),
        ("lava-send a=b", "not a message id"),
        ("lava-send ''", "empty"),
        ("lava-send x 'a key=1'", "white space"),
        ("lava-send x v='1\n2'", "line break"),
        ("lava-wait", "missing"),
        ("lava-wait a b", "too many"),
        ("lava-wait-all a b c", "too many"),
        ("lava-wait --any --next a", "do not go together"),
        ("lava-sync --role r --count 2 a", "do not go together"),
        ("lava-wait --next a b", "too many"),
        ("lava-wait-all --device x a r", "too many"),
        ("lava-unlock a=b", "'=' in it"),
        ("lava-sync --roles x a", "unknown option"),
        ("lava-network collect a b c", "too many"),
        ("lava-network broadcast", "missing"),
    ],
)
def test_what_the_commands_refuse(script: str, reason: str) -> None:
    (call,) = read(script)
    assert isinstance(call, Call)
    assert reason in call.refused


def test_what_ours_wait_for() -> None:
    script = "lava-wait --any a b\nlava-wait-all --device x --device $y f\nlava-sync --count 2 e\nlava-wait --next c"
    any_of, named, some, following = (call for call in read(script) if isinstance(call, Call))
    assert any_of.ids == (known("a"), known("b"))
    assert (named.devices, named.role) == ((known("x"), UNKNOWN), None)
    assert some.count == known("2")
    assert (following.takes_any, following.ids) == (True, (known("c"),))
    assert not any(call.refused for call in (any_of, named, some, following))


def test_what_is_not_known_is_not_refused() -> None:
    for script in ("lava-send $x", "lava-wait a $x", 'lava-sync "$x-y"', "lava-send a $x $y=1"):
        (call,) = read(script)
        assert isinstance(call, Call)
        assert call.refused == ""


SCRIPTS = {
    "run-server.sh": "#!/bin/sh\nset -e\n. ./lib/common.sh\ngreet server\nlib/tool.py\n./sub/deep.sh x\n",
    "lib/common.sh": "greet() {\n  lava-send hello-$1\n}\nlog() { echo; }\nlog\n",
    "lib/tool.py": "#!/usr/bin/python3\nimport os\n",
    "lib/caller.py": "#!/usr/bin/env python3\nsubprocess.run(['lava-send', name])\n",
    "sub/deep.sh": '#!/bin/bash\ncd "$(dirname "$0")/.." || exit\n. "$(pwd)/lib/common.sh"\ngreet "$1$OWN"\n',
    "loop.sh": "./loop.sh\nlava-send again\n",
    "options.sh": (
        'while getopts "s:vh" o; do case "$o" in s) SERVER=${OPTARG};; v) V=1;; *) exit 1;; esac; done\n'
        'if [ -z "${SERVER}" ]; then lava-send up; else lava-wait up; fi\n'
    ),
}


def test_scripts_are_followed() -> None:
    items = read("OWN=1\n./run-`lava-role`.sh", files=SCRIPTS)
    assert shown(items) == ["lava-send hello-server", "work: lib/tool.py", "lava-send hello-x*"]
    calls = [item for item in items if isinstance(item, Call)]
    assert [call.place for call in calls] == [Place("lib/common.sh", 2)] * 2
    (work,) = [item for item in items if isinstance(item, Work)]
    assert work.place == Place("run-server.sh", 5)


def test_folders_are_followed() -> None:
    for way in (
        "cd sub; ./deep.sh y",
        "sh ./sub/deep.sh y",
        "bash -x sub/deep.sh y",
        "cd lib; ../sub/deep.sh y",
    ):
        assert shown(read(way, files=SCRIPTS)) == ["lava-send hello-y*"], way
    assert shown(read("cd $somewhere; ./deep.sh", files=SCRIPTS)) == ["unread: ./deep.sh", "work: ./deep.sh"]


def test_exported_variables_reach_scripts() -> None:
    assert shown(read("export OWN=1; ./sub/deep.sh a; OWN=2 ./sub/deep.sh b", files=SCRIPTS)) == [
        "lava-send hello-a1",
        "lava-send hello-b2",
    ]


def test_options_of_scripts_are_not_followed() -> None:
    assert shown(read("./options.sh -v -s host", files=SCRIPTS)) == [
        "lava-send up [perhaps]",
        "lava-wait up [perhaps]",
    ]


def test_what_can_not_be_read_is_told() -> None:
    assert shown(read("./nowhere.sh && lava-send a", files=SCRIPTS))[0] == "unread: ./nowhere.sh"
    assert shown(read("python3 lib/caller.py; lib/tool.py", files=SCRIPTS)) == [
        "unread: lib/caller.py",
        "work: lib/caller.py",
        "work: lib/tool.py",
    ]
    assert shown(read("$x a", files=SCRIPTS)) == ["unread: *"]
    # Nothing that a device runs anyway.
    assert read("/usr/bin/id; . /etc/os-release; apt-get install x; python3 -m http.server") == []


# What runs commands without being read: each of these is named as not read.
RUN_UNSEEN = {
    "here-document": "python3 - <<E\nos.system('lava-send x')\nE",
    "pipe": "printf 'all:\\n\\tlava-send x\\n' | make -f -",
    "here-string": "at now <<< 'lava-send x'",
    "written": "printf '#!/bin/sh\\nlava-send x\\n' > d/x; run-parts d",
    "written by tee": "echo lava-send x | tee cron; crontab cron",
    "written in a here-document": "cat > Makefile <<'E'\nall:\n\tlava-send x\nE\nmake",
    "copied": "cp lib/caller.py /usr/bin/say; say x",
    "folder": "run-parts sub",
    "runner of an action": "lava-test-runner /lava-1",
    "pattern": "ls sub/*.sh | xargs -n1 sh",
    "makefile": "make all",
    "imported": "python3 main.py",
    "put together": "python3 together.py",
    "sourced from nowhere": ". $WHERE/lib.sh; say x",
}
UNSEEN = {
    "lib/caller.py": "import os\nos.system('lava-wait x')\n",
    "sub/": "lava-send x\n",
    "Makefile": "all:\n\tlava-send x\n",
    "main.py": "from lib import caller\n",
    "together.py": "run('lava-' + 'send')\n",
}


@pytest.mark.parametrize("name", RUN_UNSEEN)
def test_what_other_programs_may_run(name: str) -> None:
    assert any(isinstance(item, Unread) for item in read(RUN_UNSEEN[name], files=UNSEEN))


def test_text_that_nobody_runs_is_none_of_it() -> None:
    quiet = "echo 'lava-wait x failed' >> all.log; lava-send x | tee out; echo lava-send x | grep y; iperf3 -c z; find ."
    assert shown(read(quiet, files=UNSEEN)) == ["lava-send x"]


def test_what_is_listed_is_not_fed_to_a_later_pipeline() -> None:
    assert shown(read("ls sub/*.sh; echo x | foo; lava-send x", files=UNSEEN)) == ["lava-send x"]


def test_what_a_script_prints_is_not_what_it_holds() -> None:
    files = {"calls.sh": "lava-send x\n", "parse.py": "print(1)\n"}
    for script in ("./calls.sh | tee result", "./calls.sh >result", "sh calls.sh | awk 1"):
        assert shown(read(f"{script}; python3 parse.py", files=files)) == ["lava-send x", "work: parse.py"]


def test_scripts_find_themselves() -> None:
    files = {
        "d/x.sh": '. "${BASH_SOURCE%/*}/lib.sh"\n. ${0%/*}/lib.sh\n. "$(dirname "${BASH_SOURCE[0]}")"/lib.sh\n'
        'main() { [ $# -eq 0 ] || exit; say ${0##*/}; }\nmain "$@"\n',
        "d/lib.sh": "say() { lava-send $1; }\n",
        "d/say": "lava-send said\n",
    }
    assert shown(read("bash d/x.sh", files=files)) == ["lava-send x.sh"]
    assert (
        shown(read("PATH=$PWD/d:$PATH; say; cd d; PATH=.:$PATH say", files=files)) == ["lava-send said"] * 2
    )


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("A=1; B=2; C=3; lava-send $A-$B-$C", "lava-send 1-2-3"),
        ("A=1; B=2; lava-send x-$A.$B/z", "lava-send x-1.2/z"),
        ("lava-send $(lava-self)-`lava-role`-x", "lava-send server-1-server-x"),
        ("set -- p q r; lava-send $1-$2-$3", "lava-send p-q-r"),
        ("lava-send '\\$A' \\$A-x", "lava-send \\$A $A-x"),
        ("A=1; lava-send '$A'", "lava-send $A"),
        ("echo 'it`s'; x=`lava-self`/d; lava-send $x", "lava-send server-1/d"),
        ("N=1; lava-send $Nä", "lava-send 1ä"),
        ("export PATH=$PATH:$PWD/d; say", "lava-send said"),
        ("PATH=$PATH:`pwd`/d; say", "lava-send said"),
    ],
)
def test_words_of_several_expansions(script: str, expected: str) -> None:
    assert shown(read(script, files={"d/say": "lava-send said\n"})) == [expected]


def test_a_script_that_calls_itself_comes_to_an_end() -> None:
    items = read("./loop.sh", files=SCRIPTS)
    assert any(isinstance(item, Unread) for item in items)


def test_much_work_comes_to_an_end() -> None:
    doubling = (
        "f0() { lava-send x; }\n" + "".join(f"f{n + 1}() {{ f{n}; f{n}; }}\n" for n in range(30)) + "f30"
    )
    assert any(isinstance(item, Unread) for item in read(doubling))
    assert any(isinstance(item, Unread) for item in read("(" * 500 + "lava-send x" + ")" * 500))


def test_texts_that_may_be_the_same() -> None:
    pattern = known("ready-") + UNKNOWN + known("-1")
    assert str(pattern) == "ready-*-1"
    assert pattern.may_be(known("ready-x-1")) and known("ready--1").may_be(pattern)
    assert not pattern.may_be(known("ready-1")) and not pattern.may_be(known("done-x-1"))
    assert pattern.may_be(known("re") + UNKNOWN) and not pattern.may_be(UNKNOWN + known("-2"))
    assert UNKNOWN + UNKNOWN == UNKNOWN and UNKNOWN.may_be(known(""))


def test_any_character_comes_through() -> None:
    words = ["{\U000def9f", "é", "漢字", "{1..2→}", "\U0001f600x", "À\xff"]
    calls = read("\n".join(f"lava-send '{word}'" for word in words))
    assert [str(item.text) for item in calls] == [f"lava-send {word}" for word in words]


PIECES = st.sampled_from(
    ["lava-send ", "lava-wait ", "lava-sync x", "$(", ")", "`", '"', "'", "if ", "then ", "fi", "for i in ", "do ",
     "done", "case ", " in ", "esac", ";;", "\n", " ", ";", "&", "|", "&&", "||", "(", "{", "}", "$x", "${x%", "${x:-",
     "$((", "))", "f() {", "<<EOF", "EOF", "\\", "trap ", "eval ", "[ ", " ]", "[[ ", " = ", "while ", "$(lava-role)",
     "getopts ab: o", "set -- ", "shift ", "./run.sh ", ". lib.sh", "return", "break", "exit", "\0", "é", "\ud800",
     "\U000def9f"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join)))
@example("$((9**9**9))")
@example("{\U000def9f")
@example("echo {1..9\U000def9f")
@example("${x//$(lava-send a)/b}")
@example("case x in esac; for; while getopts; do done")
@example("x=${x%%*************************b}; set -- $x; shift 99999; shift x")
def test_nothing_raises(script: str) -> None:
    for item in read(script, files={"run.sh": script, "lib.sh": script}, parameters={"x": "aaaa"}):
        assert str(item.text) is not None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("ab-"), max_size=4), st.lists(st.sampled_from("ab-"), max_size=4))
def test_a_text_may_be_what_it_was_made_of(parts: list[str], fillings: list[str]) -> None:
    text, whole = known(""), ""
    for part, filling in zip(parts, fillings, strict=False):
        text, whole = text + known(part) + UNKNOWN, whole + part + filling
    assert text.may_be(known(whole)) and known(whole).may_be(text) and text.may_be(text)
    assert isinstance(text, Text)


DOUBLING = "a=xxxxxxxx\n" + "a=$a$a\n" * 60


@pytest.mark.parametrize(
    "script",
    [
        DOUBLING + "lava-send $a",
        "f() { a=$1$1; set -- $a $a $a; f $a; }\nf xxxxxxxx",
        "a=x\nwhile true; do a=$a$a; lava-send $a; done",
        "a=x; b=x\n" + "a=$a$b; b=$b$a\n" * 200 + "lava-send x $a=$b",
        'eval "' + "a=\\$a\\$a;" * 500 + '"; eval $a; sh -c "$a"',
        "".join(f"v{n}=x\n" for n in range(5000)) + "if test -e x; then v1=y; fi\n" * 5000 + "lava-wait x",
        "a=$(date)\n" + "a=$a-$a\n" * 60 + "lava-send $a",
    ],
    ids=["doubled", "function", "loop", "two", "eval", "branches", "unknown parts"],
)
def test_what_grows_is_bounded(script: str) -> None:
    """Each would take gigabytes or minutes."""
    for item in read(script):
        assert len(item.text) <= 3 * MAX_CHARACTERS


def test_what_has_grown_too_much_is_not_known() -> None:
    assert shown(read(DOUBLING + "lava-send y v=$a")) == ["lava-send y v=*"]


@pytest.mark.parametrize(
    "script",
    [
        "flock lava-send run",
        "flock one two",
        "cp one x; cp two y; foo",
        "printf lava-send >x; printf lava-wait >y; foo",
    ],
)
def test_texts_that_a_program_may_run_stay_apart(script: str) -> None:
    """Where the first ends without a line break."""
    files = {"run": "lava-wait b\n", "one": "lava-send a", "two": "lava-wait b"}
    (unread,) = [item for item in read(script, files=files) if isinstance(item, Unread) and item.content]
    assert len(re.findall(r"\blava-(?:send|wait)\b", unread.content)) == 2


def test_all_commands_of_the_box_are_known() -> None:
    """No name that it lacks: `which` of that is not known."""
    assert set(COMMANDS) == OF_THE_BOX
