# SPDX-License-Identifier: MIT
"""The expected run of jobs, and what is wrong with them."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.group.coordinator import Coordinator
from dispatcher.group.events import Released
from dispatcher.jobs import model
from dispatcher.jobs.model import Definition, Job, Place, Request, Role, Step
from dispatcher.plan import expected
from dispatcher.plan import lint as rules
from dispatcher.plan.calls import ScriptFile
from dispatcher.plan.expected import Expected, expect
from dispatcher.plan.lint import Finding, findings
from dispatcher.plan.plantable import expected_table
from dispatcher.plan.programs import programs
from dispatcher.report.flow.table import Kind, shown


def job(scripts: Mapping[str, str]) -> Job:
    """A job with a role for each key, "client" or "client*2", that runs this script."""
    roles = []
    for key, script in scripts.items():
        name, _, count = key.partition("*")
        definition = Definition(name, Place(name, 1), steps=(Step(script, Place(f"{name}.yaml", 1)),))
        action = model.TestAction(Place("job.yaml", 5), definitions=(definition,))
        roles.append(Role(name, int(count or 1), Place("job.yaml", 1), (action,)))
    return Job("test", Place("job.yaml", 1), tuple(roles))


def devices_of(of: Job) -> list[tuple[str, Role]]:
    return [(f"{role.name}-{number + 1}", role) for role in of.roles for number in range(role.count)]


def play(of: Job | Mapping[str, str], files: Mapping[str, str] | None = None) -> Expected:
    def read_file(path: str) -> ScriptFile | None:
        return ScriptFile(path, files[path]) if files and path in files else None

    return expect(programs(devices_of(of if isinstance(of, Job) else job(of)), lambda _: read_file))


def lint(scripts: Mapping[str, str], files: Mapping[str, str] | None = None) -> list[Finding]:
    return findings(play(scripts, files))


def brief(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.rule, finding.severity.value, str(finding.place)) for finding in found]


def rows(expected: Expected, by: str = "role") -> list[list[str]]:
    table = expected_table(expected, by)
    return [[shown(cell) for cell in row.cells] for row in table.rows]


# Each wrong job, and all that is to be said of it.
WRONG: dict[str, tuple[dict[str, str], list[tuple[str, str, str]]]] = {
    "typo": (
        {"server": "true\nlava-send redy", "client": "lava-wait ready"},
        [("never-sent", "error", "client.yaml, line 1"), ("near-twin", "warning", "server.yaml, line 2")],
    ),
    "sync left out": (
        {"server": "lava-sync go", "client*2": "lava-sync go", "observer": ":"},
        [("sync-left-out", "error", "client.yaml, line 1"), ("sync-left-out", "error", "server.yaml, line 1")],
    ),
    "no such role": (
        {"server": "lava-send up", "client": "lava-wait-all up servers"},
        [("no-such-role", "error", "client.yaml, line 1")],
    ),
    "wait-all that a role leaves out": (
        {"server": "lava-send up", "client": "lava-send up; lava-wait-all up", "observer": "true"},
        [("wait-all-left-out", "error", "client.yaml, line 1")],
    ),
    "before its own send": (
        {"server": "lava-wait-all up", "client": "lava-send up"},
        [("wait-all-before-own-send", "warning", "server.yaml, line 1")],
    ),
    "sent differently": (
        {"server": "lava-send up v=1\nlava-send up v=2", "client": "lava-wait up"},
        [("sent-differently", "warning", "server.yaml, line 2")],
    ),
    "cycle": (
        {"a": "lava-wait x; lava-send y", "b": "lava-wait y; lava-send z", "c": "lava-wait z; lava-send x"},
        [("dead-end", "error", f"{role}.yaml, line 1") for role in "abc"],
    ),
    "one sync more": (
        {"a": "lava-sync go; lava-sync go", "b": "lava-sync go"},
        [("sync-count", "error", "a.yaml, line 1")],
    ),
    "own message": (
        {"a": "lava-send x\nlava-wait x", "b": "true"},
        [("own-message", "error", "a.yaml, line 2")],
    ),
    "refused": (
        {"a": "lava-send 'my id'\nlava-wait x", "b": "lava-send x"},
        [("refused", "error", "a.yaml, line 1")],
    ),
    "broadcast forgotten": (
        {"a": "lava-network broadcast eth0; lava-network collect eth0", "b": "lava-network collect eth0"},
        [
            ("wait-all-left-out", "error", "a.yaml, line 1"),
            ("wait-all-before-own-send", "warning", "b.yaml, line 1"),
        ],
    ),
    "value without quotes": (
        {"a": "lava-send x m=two words", "b": "lava-wait x"},
        [("no-pair", "warning", "a.yaml, line 1")],
    ),
    "spoilt by LAVA": (
        {"a": "lava-send x 'm=a  b' c='1>2'\nlava-send x e= my-key=1 'p=C:\\d'", "b": "lava-wait x; exit"},
        [
            ("sent-differently", "warning", "a.yaml, line 2"),
            *[("spoilt-by-lava", "note", f"a.yaml, line {line}") for line in (1, 1, 2, 2, 2)],
        ],
    ),
    "alone": ({"a": "lava-wait x"}, [("alone", "error", "a.yaml, line 1")]),
    "nobody waits": ({"a": "lava-send x", "b": "true"}, [("unwaited", "note", "a.yaml, line 1")]),
    "perhaps": (
        {"a": 'if grep q f; then lava-wait x; fi', "b": "true"},
        [("never-sent", "warning", "a.yaml, line 1")],
    ),
    "with a time-out": (
        {"a": "lava-wait --timeout 5 x; lava-sync end", "b": "lava-sync end"},
        [("never-sent", "warning", "a.yaml, line 1")],
    ),
    "perhaps in what can't be read": (
        {"a": "lava-wait x", "b": "./prepare"},
        [("never-sent", "note", "a.yaml, line 1")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_jobs(name: str) -> None:
    scripts, expected = WRONG[name]
    assert brief(lint(scripts)) == expected


RIGHT = {
    "reference": {
        "server*2": "lava-sync start; lava-send ready; lava-sync fin",
        "client*2": "lava-sync start; lava-wait-all ready server; lava-sync fin",
        "observer": "lava-sync start; lava-sync fin",
    },
    "one script for all": {
        "a": 'case $(lava-role) in a) lava-send x;; *) lava-wait x;; esac; lava-sync end',
        "b*3": 'case $(lava-role) in a) lava-send x;; *) lava-wait x;; esac; lava-sync end',
    },
    "to each by name": {
        "master": "for d in $(lava-group worker); do lava-send go-$d; lava-wait done-$d; done",
        "worker*3": "lava-wait go-$(lava-self); lava-send done-$(lava-self)",
    },
    "polling": {
        "server": "while true; do lava-wait ask; lava-send answer v=$(date); done",
        "client": "for i in $(seq 3); do lava-send ask n=$(date); lava-wait answer; done",
    },
    "as many as the server says": {
        "server": 'lava-send n v=$N; for i in 1 $(seq 2 $N); do lava-send up-$i; lava-wait did-$i; done',
        "client": 'lava-wait n; for i in 1 $(seq 2 $(cut -d= -f2 f)); do lava-wait up-$i; lava-send did-$i; done',
    },
    "either answer": {
        "a": "if make; then lava-send built how=good; else lava-send built how=bad; fi",
        "b": "lava-wait built",
    },
    "syncs in a loop": {
        "a": "for i in 1 2 3; do lava-sync s; done",
        "b": "while read -r i; do lava-sync s; done < list",
    },
    "same id for steps": {
        "a": "lava-send step-1; lava-send step-2", "b": "lava-wait step-1; lava-wait step-2",
    },
    "guard": {"a": 'which lava-send || exit 0; lava-send x', "b": 'lava-wait x || { echo no; exit 1; }'},
    "peers": {"peer*3": "lava-send data v=$(lava-self); lava-wait-all data; lava-wait data"},
    "in the background": {"a": "lava-wait x & lava-send y; wait", "b": "lava-wait y; lava-send x"},
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_right_jobs(name: str) -> None:
    assert lint(RIGHT[name]) == []


def test_a_program_that_has_the_id_in_its_text_may_send_it() -> None:
    files = {"serve.py": "#!/usr/bin/python3\nrun(['lava-send', 'listening'])\n"}
    assert lint({"a": "./serve.py", "b": "lava-wait listening"}, files) == []
    (finding,) = lint({"a": "./serve.py", "b": "lava-wait listning"}, files)
    assert (finding.rule, finding.severity.value) == ("never-sent", "note")


def test_findings_say_what_to_do() -> None:
    (wait, twin) = lint({"server": "lava-send redy", "client": "lava-wait ready"})
    assert str(wait) == (
        "client.yaml, line 1: error: role client waits for 'ready', which no other device sends. "
        "Did you mean 'redy'? [never-sent]"
    )
    assert "'ready' is waited for" in twin.sentence
    (finding,) = lint({"a": "lava-sync start", "b": "lava-sync strat"})[:1]
    assert finding.advice == "They send 'strat': is the same meant?"
    (finding,) = lint({"a": "lava-send x", "b": "lava-wait-all x aa"})
    assert finding.advice == "The roles are a, b."


def test_the_table_of_the_reference() -> None:
    files = {"start.sh": "run", "tasks.sh": "run"}
    expected = play(
        {
            "server": "lava-sync start; ./start.sh; lava-send ready; lava-sync fin",
            "client": "lava-sync start; lava-wait-all ready server; ./tasks.sh; lava-sync fin",
            "observer": "lava-sync start; lava-sync fin",
        },
        files,
    )
    assert rows(expected) == [
        ["lava-sync start", "lava-sync start", "lava-sync start"],
        ["./start.sh", "lava-wait-all ready server", "lava-sync fin"],
        ["lava-send ready", "", ""],
        ["lava-sync fin", "./tasks.sh", ""],
        ["", "lava-sync fin", ""],
    ]
    blocked = [[cell.kind is Kind.BLOCKED for cell in row.cells] for row in expected_table(expected).rows]
    assert blocked == [
        [False] * 3,
        [False] * 3,
        [False, True, True],
        [False, False, True],
        [True, False, True],
    ]


def test_devices_that_differ_have_columns_of_their_own() -> None:
    expected = play({"a": "lava-wait x-a-1", "b*2": "lava-send x-$(lava-self) from=$(lava-self)"})
    assert [column.name for column in expected_table(expected).columns] == ["a", "b"]
    assert rows(expected)[0][1] == "lava-send x-$(lava-self) from=$(lava-self)"
    assert [column.name for column in expected_table(expected, "device").columns] == ["a-1", "b-1", "b-2"]
    expected = play({"b*2": "case $(lava-self) in b-1) lava-sync x;; esac; lava-sync y"})
    assert [column.name for column in expected_table(expected).columns] == ["b-1", "b-2"]


def test_what_stays_blocked_is_marked() -> None:
    expected = play({"a": "lava-wait x; lava-send y", "b*2": "lava-wait y"})
    assert rows(expected) == [["lava-wait x (stays blocked)", "lava-wait y (stays blocked)"]]
    assert [entry.device for entry in expected.blocked] == ["a-1", "b-1", "b-2"]
    assert "b-1 and b-2 stay blocked in 'lava-wait y'" in expected_table(expected).remarks[2]


def test_requests_and_delayed_starts_take_part() -> None:
    place = Place("job.yaml", 9)
    request = Request("lava-wait-all", "booted", place, role="guest")
    host = Role("host", 1, place, (model.TestAction(place, (request,), ()),))
    start = Definition("s", place, steps=(Step("lava-send lava_start", place),))
    host = Role("host", 1, place, (model.TestAction(place, (), (start,)), *host.actions))
    send = model.TestAction(place, (Request("lava-send", "booted", place, data=(("ip", "$ip"),)),))
    guest = Role("guest", 2, place, (send,), starts_after="host")
    expected = play(Job("j", place, (guest, host)))
    assert rows(expected) == [
        ["lava-wait-all lava_start host", "lava-send lava_start"],
        ["lava-send booted ip=$ip", "lava-wait-all booted guest"],
    ]
    assert findings(expected) == []


def test_what_is_installed_comes_first() -> None:
    place = Place("job.yaml", 9)
    first = Definition("f", place, steps=(Step("lava-send b", place),))
    second = Definition("s", place, steps=(Step("x", place),), install=(Step("lava-send a", place),))
    role = Role("r", 1, place, (model.TestAction(place, (), (first, second)),))
    assert rows(play(Job("j", place, (role,)))) == [["lava-send a"], ["lava-send b"]]


CALLS = st.sampled_from(
    ["lava-send a", "lava-send b k=1", "lava-wait a", "lava-wait b", "lava-wait-all a", "lava-wait-all b r1",
     "lava-sync a", "lava-sync c", "if x; then lava-wait a; fi", "while x; do lava-sync c; done", "./unread",
     "lava-wait a &", "lava-send a-$x", "lava-wait --timeout 3 b", "lava-wait $x"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(CALLS, max_size=5), min_size=1, max_size=4))
def test_the_play_agrees_with_the_coordinator(scripts: list[list[str]]) -> None:
    expected = play({f"r{number}*2": "\n".join(script) for number, script in enumerate(scripts)})
    coordinator = Coordinator()
    for event in expected.events:
        coordinator.apply(event)
    assert {wait.waiting.device for wait in coordinator.open_waits()} == {
        entry.device for entry in expected.blocked
    }
    for program in expected.programs:
        steps = expected.steps[program.device]
        assert [step.round for step in steps] == sorted({step.round for step in steps})
    # What certainly happens only once, and without doubt, needs nothing that nobody knows.
    if all("x" not in call and "unread" not in call for script in scripts for call in script):
        timed = any("timeout" in call for script in scripts for call in script)
        assert timed or not any(isinstance(event, Released) for event in expected.events)
    assert findings(expected) == findings(play({f"r{n}*2": "\n".join(s) for n, s in enumerate(scripts)}))
    assert expected_table(expected).columns


# Commands that run what they are given; `{}` is a call, and "calls.sh" a script that makes it.
RUNNERS = [
    "su -c '{}' nobody",
    "su nobody -c ./calls.sh",
    "flock /tmp/lock {}",
    "flock /tmp/lock -c ./calls.sh",
    "find . -name x -exec {} \\;",
    "echo 1 | xargs -n 1 {}",
    "unshare --net {}",
    "chroot / {}",
    "awk 'BEGIN {{ system(\"{}\") }}'",
    "script -q -c '{}' /dev/null",
    "ip netns exec x ./calls.sh",
    "ssh host '{}'",
    "docker exec box sh -c '{}'",
    "sh < calls.sh",
    "cat calls.sh | sh",
    "bash -s <<END\n{}\nEND",
    "sh <<'END'\n{}\nEND",
    "systemd-run --wait {}",
    "runuser -u nobody -- ./calls.sh",
    "parallel ./calls.sh ::: 1",
    "make -C . CALL='{}'",
]


@pytest.mark.parametrize("form", RUNNERS)
@pytest.mark.parametrize("call", ["lava-send x", "lava-sync x", "lava-wait y"])
def test_what_others_run_is_named_and_is_no_error(form: str, call: str) -> None:
    script = form.format(call)
    other = {"lava-send x": "lava-wait x", "lava-sync x": "lava-sync x", "lava-wait y": "lava-send y"}[call]
    expected = play({"a": script, "b": other}, {"calls.sh": f"#!/bin/sh\n{call}\n"})
    assert [entry for entry in brief(findings(expected)) if entry[1] != "note"] == []
    assert "Not read" in "\n".join(expected_table(expected, "role").remarks)


# Scripts that send 'x' by what no shell text here says.
SENT_UNSEEN = {
    "an include of a makefile": "make go",
    "an include by a variable": "make -f variable.mk",
    "what a recipe runs": "cd m2 && make",
    "a makefile by an option": "make -s --file=rules.mk go",
    "a folder by an option": "make --directory=m2",
    "a script behind a script": "su nobody -c ./outer.sh",
    "in the text of a program": "awk '{system(\"./calls.sh\")}' f; socat TCP-L:1 EXEC:./calls.sh",
    "all files of a folder": "find . -name '*.sh' -exec sh {} \\;",
    "whatever is read": "xargs -n1 sh < list",
    "a file on the input": "docker exec -i box sh < calls.sh",
    "named on the input": "echo ./calls.sh | at now",
    "changed in place by perl": "perl -pi -e s/@ID@/x/ template.sh; ./template.sh",
    "changed in place": "sed -i.bak -e s/@ID@/x/ template.sh; ./template.sh",
    "overwritten": "echo 'lava-send x' > template.sh; sh template.sh",
    "appended": "printf 'lava-send x\\n' >> template.sh; sh template.sh",
    "another in its place": "cp calls.sh template.sh; sh template.sh",
    "written by tee": "echo lava-send x | tee template.sh; sh template.sh",
    "sourced from where it was written": "cat > /tmp/e.sh <<E\nlava-send x\nE\n. /tmp/e.sh",
    "in a system's folder": "install -m 755 calls.sh /usr/bin/say; /usr/bin/say",
    "for a service": "echo '* * * * * root ./calls.sh' > /etc/cron.d/x",
    "a module": "python3 -m tool",
    "a package": "python3 with_package.py",
    "a test of a folder": "python3 -m pytest",
    "an expect script": "expect test.expect",
    "a function for other shells": "f() { lava-send x; }; export -f f; echo 1 | xargs bash -c f",
    "a background process": "lava-background-process-start s --cmd ./calls.sh",
}
SENDING_FILES = {
    "calls.sh": "#!/bin/sh\nlava-send x\n",
    "./": "os.system('lava-send x')",
    "outer.sh": "#!/bin/sh\n./calls.sh\n",
    "template.sh": "#!/bin/sh\nlava-send @ID@\n",
    "Makefile": "include rules.mk\nall:\n\techo\n",
    "rules.mk": "-include deep/more.mk\n",
    "deep/more.mk": "go:\n\tlava-send x\n",
    "m2/Makefile": "t:\n\t./run.sh\n",
    "m2/run.sh": "#!/bin/sh\nlava-send x\n",
    "m2/": "lava-send x\n",
    "variable.mk": "D = deep\ninclude $(D)/more.mk\n",
    "with_package.py": "import package\n",
    "package/__init__.py": "os.system('lava-send x')\n",
    "tool.py": "import helper\n",
    "helper.py": "os.system('lava-send x')\n",
    "test.expect": "spawn ./calls.sh\n",
}


@pytest.mark.parametrize("name", SENT_UNSEEN)
def test_what_is_run_unseen_is_no_error(name: str) -> None:
    found = lint({"a": SENT_UNSEEN[name], "b": "lava-wait x"}, SENDING_FILES)
    assert [entry for entry in brief(found) if entry[1] != "note"] == []


def test_what_one_definition_writes_another_runs() -> None:
    place = Place("job.yaml", 9)
    first = Definition("f", place, steps=(Step("echo 'lava-send x' > /usr/bin/say", place),))
    second = Definition("s", place, steps=(Step("say", place),))
    a = Role("a", 1, place, (model.TestAction(place, (), (first, second)),))
    wait = Definition("w", place, steps=(Step("lava-wait x", place),))
    b = Role("b", 1, place, (model.TestAction(place, (), (wait,)),))
    assert findings(play(Job("j", place, (a, b)))) == []
    # But not what another device writes.
    a = Role("a", 1, place, (model.TestAction(place, (), (first,)),))
    b = Role("b", 1, place, (model.TestAction(place, (), (second, wait)),))
    assert [finding.rule for finding in findings(play(Job("j", place, (a, b))))] == ["never-sent"]


def test_programs_that_only_look_at_text_are_no_riddle() -> None:
    expected = play({"a": "grep -q lava-send x.sh\nsed -i s/lava-wait/x/ y\nlava-sync x", "b": "lava-sync y"})
    assert [entry[0] for entry in brief(findings(expected)) if entry[1] == "error"] == ["sync-left-out"] * 2


def test_a_role_is_read_once() -> None:
    """Unless it asks for the device's name."""
    for script, times in (("lava-sync $(lava-role)", 1), ("lava-send x name=$(lava-self)", 4)):
        reads: list[str] = []

        def read_file(path: str, reads: list[str] = reads, script: str = script) -> ScriptFile:
            reads.append(path)
            return ScriptFile(path, script)

        made = programs(devices_of(job({"a*4": "./x.sh"})), lambda _, read=read_file: read)
        assert len(reads) == times
        assert [program.device for program in made] == ["a-1", "a-2", "a-3", "a-4"]
    assert [str(program.calls[0].data[0][1]) for program in made] == ["a-1", "a-2", "a-3", "a-4"]


OURS = {
    "any": {"a": "lava-wait --any ready failed", "b": "lava-send failed"},
    "next": {"a": "lava-wait --next x; lava-wait --next x", "b*2": "lava-send x"},
    "devices": {
        "a": "lava-wait-all --device b-2 x",
        "b*2": "if [ $(lava-self) = b-2 ]; then lava-send x; fi",
    },
    "role": {"a": "lava-sync end", "b*2": "lava-sync --role b x; lava-sync end"},
    "count": {
        "a": "lava-sync --count 2 x; lava-sync end",
        "b": "lava-sync --count 2 x; lava-sync end",
        "c": "lava-sync end",
    },
    "lock": {"a*3": "lava-lock power; lava-unlock power; lava-lock power -- echo x"},
    "locked at the end": {"a*3": "lava-lock power; echo x"},
}


@pytest.mark.parametrize("name", OURS)
def test_nothing_is_wrong_with_what_lava_has_not(name: str) -> None:
    expected = play(OURS[name])
    assert expected.blocked == []
    assert [step.failed for steps in expected.steps.values() for step in steps if step.failed] == []
    assert brief(findings(expected)) == []


WRONG_OURS = {
    "none of them": ({"a": "lava-wait --any x y", "b": "lava-send z"}, "a", "never-sent"),
    "one too many": ({"a": "lava-wait --next x; lava-wait --next x", "b": "lava-send x"}, "a", ""),
    "no such role": ({"a": "lava-sync --role c x", "b": "echo"}, "a", "no-such-role"),
    "a lock": ({"a": "lava-lock p -- lava-wait go", "b": "lava-lock p; lava-send go"}, "a", ""),
    "too few": ({"a": "lava-sync --count 2 x", "b": "lava-wait y", "c": "lava-wait y"}, "a", ""),
}


@pytest.mark.parametrize("name", WRONG_OURS)
def test_what_is_wrong_with_what_lava_has_not(name: str) -> None:
    scripts, device, rule = WRONG_OURS[name]
    expected = play(scripts)
    found = findings(expected)
    failed = {own.device for own in expected.blocked} | {
        name for name, steps in expected.steps.items() if any(step.failed for step in steps)
    }
    assert any(name.startswith(device) for name in failed)
    assert found
    assert not rule or rule in {finding.rule for finding in found}


def test_what_is_too_much_to_look_at_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = {"server": "true\nlava-send redy", "client*2": "lava-wait ready\nlava-wait steady"}

    def said() -> list[tuple[str, str]]:
        return [(finding.rule, finding.sentence) for finding in lint(scripts)]

    assert [rule for rule, _ in said()] == ["never-sent", "never-sent", "near-twin"]
    monkeypatch.setattr(rules, "_MOST_COMPARISONS", 0)
    too_many = "there are so many devices and calls that"
    assert said()[2:] == [
        ("too-many", f"{too_many} not all ids were compared to find slips."),
        ("unwaited", "nobody waits for 'redy'."),
    ]
    monkeypatch.setattr(rules, "_MOST_LOOKS", 3)
    assert [rule for rule, _ in said()] == ["never-sent", "too-many", "unwaited"]
    assert said()[1][1] == f"{too_many} some waits were not looked at."


def test_devices_that_are_too_many_to_judge_are_taken_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = {"server": "lava-wait b", "client": "lava-wait a"}
    assert len(play(scripts).blocked) == 2
    monkeypatch.setattr(expected, "_MOST_LOOKS", 1)
    played = play(scripts)
    assert played.blocked == []
    assert {step.doubt for steps in played.steps.values() for step in steps} == {
        "there are too many devices and calls to tell"
    }
