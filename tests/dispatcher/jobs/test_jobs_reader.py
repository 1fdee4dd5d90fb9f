# SPDX-License-Identifier: MIT
"""Job files and definitions as they are read, and every mistake with its line."""

import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.jobs.model import Checkout, Job
from dispatcher.jobs.reader import read_bare_definition, read_job
from dispatcher.jobs.repositories import Repositories
from dispatcher.jobs.source import MAX_BYTES, MAX_DEPTH, JobError, Remarks, parse, plain

HEAD = """\
job_name: trial
protocols:
  lava-multinode:
    roles:
      server: {device_type: x, count: 1}
      client: {device_type: x, count: 2}
actions:
"""
INLINE = """\
- test:
    role: [server]
    definitions:
    - from: inline
      name: it
      path: inline/it.yaml
      repository:
        metadata: {format: Lava-Test Test Definition 1.0, name: it}
        run: {steps: ["true"]}
"""


def read(folder: Path, text: str, repositories: Repositories | None = None) -> Job:
    path = folder / "job.yaml"
    path.write_text(text)
    return read_job(path, repositories or Repositories())


def mistake(folder: Path, text: str) -> str:
    """The error, without the folder."""
    with pytest.raises(JobError) as caught:
        read(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def remarks(job: Job) -> list[str]:
    return [f"{remark.place.line}: {remark.sentence}" for remark in job.remarks]


# YAML


def tree(text: str) -> object:
    return plain(parse(text.encode(), "x", Remarks()))


def test_yaml_has_the_types_that_lava_gives_it() -> None:
    assert tree("a: &x [1, 010, 1.10, yes, ~, 'y', 0x1f]\nb: {<<: {c: 1, d: 2}, d: 3}\ne: *x") == {
        "a": [1, 8, 1.1, True, None, "y", 31],
        "b": {"c": 1, "d": 3},
        "e": [1, 8, 1.1, True, None, "y", 31],
    }


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "job.yaml: this file is empty"),
        ("# only\n", "job.yaml: this file is empty"),
        ("just words", "line 1: a job should be a mapping"),
        ("a: b: c\n", "line 1: this is not YAML: "),
        (
            "a: 1\n\tb: 1\n",
            "indent with spaces, not with tabs",
        ),
        ("a: \x01\n", "line 1: this is not YAML: there is a character that YAML does not allow"),
        ("a: 1\n---\nb: 1\n", "line 2: this is not YAML"),
        ("a: 1\nb: !!python/object/apply:os.system [touch x]\n", "line 2: the tag 'tag:yaml.org,2002:python"),
        ("a: 1\nb: !vault x\n", "line 2: the tag '!vault' is not allowed"),
        ("a: &a [*a]\n", "line 1: an alias is used inside its own value"),
        (ALIASES, "with its aliases this has more than 100000 values"),
        ("[" * (MAX_DEPTH + 1), f"line 1: lists and mappings are nested more than {MAX_DEPTH} deep"),
        # Here the library may have a limit of its own, and its own words.
        ("[" * 100_000, "job.yaml, line 1: "),
        ("x" * (MAX_BYTES + 1), "bytes are too many"),
        ("a: 2020-99-99\n", "line 1: '2020-99-99' can't be read"),
        ("a: " + "9" * 5000, "can't be read"),
        ("? [a]\n: b\n", "line 1: a key is a single word"),
    ],
)
def test_what_is_no_yaml(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in mistake(tmp_path, text)


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(JobError, match="line 2: this is not UTF-8 text"):
        read_job(tmp_path / "job.yaml", Repositories())


@given(st.binary(max_size=200) | st.text(alphabet="ab:-{}[]&*!|>'\"#%? \n", max_size=80).map(str.encode))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    try:
        plain(parse(data, "x", Remarks()))
    except JobError as error:
        assert str(error).startswith("x")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{% set x = 1 %}\n" + HEAD + INLINE, 1),
        (HEAD.replace("count: 2", "count: {{ number }}") + INLINE, 6),
        (HEAD.replace("count: 2", "count: '{{ number }}'") + INLINE, 6),
        (HEAD.replace("client:", "'{{ role }}':") + INLINE, 6),
        (HEAD.replace("count: 2", "count: ${NUMBER}") + INLINE, 6),
        (HEAD.replace("trial", "${name}") + INLINE, 1),
        (HEAD + "# {{ fine }}\n" + INLINE + "{% for x in y %}\n", 18),
        (HEAD + INLINE.replace("name: it\n", "name: ${name}\n", 1), 12),
    ],
)
def test_templates_have_to_be_rendered_first(tmp_path: Path, text: str, line: int) -> None:
    error = mistake(tmp_path, text)
    assert error.startswith(f"job.yaml, line {line}: ")
    assert "render it first" in error


def test_steps_may_look_like_templates(tmp_path: Path) -> None:
    steps = ["docker inspect -f '{{.State}}' x", "echo ${A} {{ x }}"]
    job = read(tmp_path, HEAD + INLINE.replace('["true"]', str(steps)))
    assert [step.text for step in job.roles[0].actions[0].definitions[0].steps] == steps


def test_key_that_stands_twice(tmp_path: Path) -> None:
    job = read(
        tmp_path, HEAD + INLINE.replace("    role: [server]\n", "    role: [server]\n    role: [client]\n")
    )
    assert remarks(job) == ["10: 'role' is given twice, also in line 9: the last one holds"]
    assert [len(role.actions) for role in job.roles] == [0, 1]


# Jobs


def test_whole_job(tmp_path: Path) -> None:
    job = read(
        tmp_path,
        """\
job_name: whole
timeouts: {job: {hours: 1, minutes: 30}, action: {minutes: 3}, connection: {minutes: 2}}
environment: {A: 1}
protocols:
  lava-multinode:
    timeout: {minutes: 10}
    roles:
      server: {device_type: x, count: 1, essential: yes, timeout: {seconds: 30}, environment: {B: "x y"}}
      guest: {connection: ssh, count: 2, request: lava-start, expect_role: server, host_role: server}
actions:
- deploy: {role: server, os: debian, to: tftp}
- boot:
    role: [guest]
    protocols:
      lava-multinode:
      - {action: a, request: lava_wait_all, messageID: up, role: server, timeout: {minutes: 1}}
- test:
    repeat: 2
    timeout: {minutes: 5}
    definitions:
    - from: inline
      name: first
      path: inline/first.yaml
      skip_install: [steps]
      params: {P: 3, Q: ~}
      parameters: {P: 2}
      repository:
        metadata: {format: Lava-Test Test Definition 1.0, name: first}
        params: {P: 0, R: True}
        parameters: {P: 1}
        install: {deps: [a], deps-debian: [b], deps-fedora: [c], steps: [echo not]}
        parse: {pattern: '(?P<test_case_id>\\w+) (?P<result>\\w+)', fixupdict: {ok: pass}}
        run:
          steps:
          - one
          -
          - |
            two
            three
          - true
""",
    )
    server, guest = job.roles
    assert (job.name, job.timeout) == ("whole", 5400)
    assert (server.count, server.essential, server.wait_timeout, server.distribution) == (
        1,
        True,
        30,
        "debian",
    )
    assert server.environment == (("A", "1"), ("B", "x y"))
    assert (guest.count, guest.wait_timeout, guest.starts_after, guest.distribution) == (
        2,
        600,
        "server",
        None,
    )
    (request,) = guest.actions[0].requests
    assert (request.command, request.message_id, request.role, request.timeout) == (
        *("lava-wait-all", "up", "server", 60),
    )
    assert len(server.actions) == 2 and len(guest.actions) == 3
    action = server.actions[0]
    assert action.timeout == 300
    (definition,) = action.definitions
    assert definition.parameters == (("P", "0"), ("R", "True"), ("P", "1"), ("P", "2"), ("P", "3"), ("Q", ""))
    assert any("deps a b is skipped" in remark for remark in remarks(job))
    assert definition.install == ()
    assert [(step.text, step.place.line) for step in definition.steps] == [
        *(("one", 35), ("two\nthree\n", 37), ("true", 40)),
    ]
    assert definition.pattern is not None and definition.fixups == {"ok": "pass"}


def test_action_without_role_is_for_all(tmp_path: Path) -> None:
    job = read(tmp_path, HEAD + INLINE.replace("    role: [server]\n", ""))
    assert [len(role.actions) for role in job.roles] == [1, 1]


def test_job_without_multinode_has_one_device(tmp_path: Path) -> None:
    job = read(
        tmp_path, "job_name: x\ndevice_type: y\nactions:\n" + INLINE.replace("    role: [server]\n", "")
    )
    assert [(role.name, role.count, len(role.actions)) for role in job.roles] == [("device", 1, 1)]


def changed(old: str, new: str) -> str:
    text = HEAD + INLINE
    assert old in text
    return text.replace(old, new, 1)


REQUEST = "role: [server]\n    protocols:\n      lava-multinode:\n      - {%s}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (changed(", count: 2", ""), "line 6: role 'client' has no count; add 'count: 1'"),
        (changed("count: 2", "count: many"), "line 6: count should be a whole number, not 'many'"),
        (changed("count: 2", "count: -1"), "line 6: count is from 0 to 1000, not -1"),
        (changed("count: 2", "counts: 2"), "line 6: role 'client' has no 'counts'; did you mean 'count'?"),
        (changed("      client:", "      cli/ent:"), "line 6: the name of a role can't have '/'"),
        (changed("{device_type: x, count: 2}", "x"), "line 6: role 'client' should be a mapping"),
        (changed("    role: [", "    roles: ["), "line 9: a test action has no 'roles'; did you mean 'role'?"),
        (changed("[server]", "[sever]"), "line 9: there is no role 'sever'; did you mean 'server'?"),
        (changed("[server]", "[x]"), "line 9: there is no role 'x'; the roles are server, client"),
        (changed("- test:", "- tests:"), "line 8: there is no action 'tests'; it is one of deploy, boot, test"),
        (changed("    role: [server]\n", "  role: [server]\n"), "line 10: this is not YAML"),
        (changed("    definitions", "    definition"), "a test action has no 'definition'; did you mean"),
        (changed("from: inline", "from: outline"), "line 11: 'from' is one of inline, git, url, tar, bzr"),
        (changed("      name: it\n", "      name: a b\n"), "line 12: a definition can't be called 'a b'"),
        (changed("path: inline", "params: {a-b: 1}\n      path: inline"), "line 13: the parameter 'a-b' can't be"),
        (changed('["true"]', "'true'"), "line 16: run: steps should be a list"),
        (changed('["true"]', "[{echo a: b}]"), "line 16: this step is a mapping, as it has ': ' in it"),
        (changed('["true"]', "[[x]]"), "line 16: this step is a list"),
        (changed("run: {steps", "run: {step"), "line 16: run has no 'step'; did you mean 'steps'?"),
        (changed("run:", "parse: {pattern: '('}\n        run:"), "line 16: the pattern is no regular expression"),
        (
            changed("run:", "parse: {pattern: '(?P<test_case_id>([(a]{999}){9}){99}(?P<result>x)'}\n        run:"),
            "line 16: the pattern repeats parts of it more than 100000 times",
        ),
        *(
            (
                changed("run:", f"parse: {{pattern: '(?P<test_case_id>{hidden})(?P<result>x)'}}\n        run:"),
                "line 16: the pattern repeats parts of it more than 100000 times",
            )
            for hidden in (
                "(?:a{0000000001000}){0000000003000}",
                "(?x)(?:a{1000}) {4000}",
                "(?:a{1000})(?#){4000}",
            )
        ),
        (
            changed("run:", "parse: {pattern: '(?P<result>x)'}\n        run:"),
            "line 16: the pattern has no group (?P<test_case_id>...)",
        ),
        (
            changed("run:", "parse: {fixupdict: {ok: passed}}\n        run:"),
            "line 16: a result is one of pass, fail, skip, unknown, not 'passed'",
        ),
        (changed("role: [server]", "timeout: {minute: 5}"), "line 9: test: timeout has days, hours, minutes or"),
        (changed("role: [server]", "timeout: {minutes: x}"), "line 9: minutes should be a number, not 'x'"),
        (changed("role: [server]", "timeout: 5"), "line 9: test: timeout should be a mapping"),
        (changed("role: [server]", "timeout: {}"), "line 9: test: timeout is no time"),
        (changed("role: [server]", "repeat: 0"), "line 9: repeat is from 1 to 1000, not 0"),
        (changed("role: [server]", REQUEST % "request: lava-send"), "line 12: this request has no 'messageID'"),
        (changed("role: [server]", REQUEST % "request: x, messageID: y"), "line 12: a request is one of lava-send"),
        (
            changed("role: [server]", REQUEST % "request: lava-wait, messageID: a b"),
            "line 12: a messageID has no white space",
        ),
        (
            changed("role: [server]", REQUEST % "request: lava-wait-all, messageID: a, role: c"),
            "line 12: there is no role 'c'",
        ),
        (changed("count: 2", "count: 2, request: lava-start"), "line 6: role 'client' waits for a start of no role"),
        (
            changed("count: 2", "count: 2, request: lava-start, expect_role: client"),
            "line 6: role 'client' would wait for its own start",
        ),
        (changed("actions:", "action:"), "line 1: this is not a job: it has no 'actions'"),
        (changed("job_name: trial", "timeout: {job: 1}"), "line 1: a job has no 'timeout'; did you mean 'timeouts'?"),
        (
            changed("from: inline", "from: git").replace("repository:\n", "repository: https://x.org/y.git\n      x:\n"),
            "line 14: nothing is fetched from https://x.org/y.git; clone it (or unpack it) here, and add --repo https://x.org/y.git=DIR",
        ),
        ('{"device_group": [], "actions": []}', "line 1: this is a job of LAVA's first format (JSON"),
        ("actions:\n- {command: lava_test_shell, parameters: {}}\n", "this is a job of LAVA's first format"),
        ("run: {steps: [x]}\n", "line 1: this is a test definition; say which devices run it"),
        (
            changed("roles:", "role: client\n    group_size: 2\n    roles:"),
            "this is the part of a job that LAVA gave to one device",
        ),
    ],
)  # fmt: skip
def test_mistakes_have_a_line_and_say_what_to_do(tmp_path: Path, text: str, error: str) -> None:
    assert error in mistake(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        (
            changed("job_name", "colour: red\njob_name"),
            "1: a job has no 'colour': it is ignored, and LAVA",
        ),
        (
            changed("role: [server]", "docker: {image: x}"),
            "9: the docker test shell runs on the device itself",
        ),
        (
            HEAD + "- test: {role: server, interactive: []}\n",
            "8: an interactive test action talks to a prompt",
        ),
        (HEAD + "- test: {role: server, monitors: []}\n", "8: 'monitors' read the console"),
        (HEAD + "- command: {role: server, name: x}\n", "8: command is not carried out"),
        (changed("      name: it\n", ""), "11: a definition without a name is called like its file"),
        (changed("path:", "expected: [x]\n      path:"), "13: 'expected' is ignored"),
        (changed("run:", "install: {keys: [x]}\n        run:"), "16: install: keys is not carried out"),
        (changed("job_name", "secrets: {A: b}\njob_name"), "1: secrets is not carried out"),
        (
            changed("role: [server]", REQUEST % "request: lava-send, messageID: a, message: {ip: $ip}"),
            "12: '$ip' would be filled in by LAVA's dispatcher",
        ),
    ],
)
def test_what_is_not_honoured_is_said(tmp_path: Path, text: str, remark: str) -> None:
    assert any(told.startswith(remark) for told in remarks(read(tmp_path, text))), remarks(
        read(tmp_path, text)
    )


# Definitions in repositories


def in_repository(path: str) -> str:
    return (
        HEAD + f"- test:\n    definitions:\n    - {{from: git, repository: tests, path: {path}, name: x}}\n"
    )


def test_definition_of_a_local_path(tmp_path: Path) -> None:
    (tmp_path / "tests" / "deep").mkdir(parents=True)
    (tmp_path / "tests" / "deep" / "a.yaml").write_text("run: {steps: [one]}\n")
    definition = read(tmp_path, in_repository("deep/a.yaml")).roles[0].actions[0].definitions[0]
    assert definition.checkout == Checkout(tmp_path / "tests")
    assert [step.text for step in definition.steps] == ["one"]
    error = mistake(tmp_path, in_repository("a.yaml"))
    assert "line 10: there is no file a.yaml in" in error
    assert "did you mean deep/a.yaml?" in error


def test_definition_stays_in_its_repository(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "secret.yaml").write_text("run: {steps: [one]}\n")
    (tmp_path / "tests" / "link.yaml").symlink_to("../secret.yaml")
    for path in ("../secret.yaml", str(tmp_path / "secret.yaml"), "link.yaml"):
        assert "leads out of the repository" in mistake(tmp_path, in_repository(path))


def test_mistake_in_a_definition_has_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.yaml").write_text("run:\n  steps:\n  - a: b\n")
    assert mistake(tmp_path, in_repository("a.yaml")).startswith(
        "tests/a.yaml, line 3: this step is a mapping"
    )


def test_bare_definition(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(textwrap.dedent("parameters: {A: 1}\nrun: {steps: [x]}\n"))
    definition = read_bare_definition(tmp_path / "one.yaml", Repositories(), Remarks())
    assert (definition.name, definition.checkout) == ("one", Checkout(tmp_path))
    assert definition.parameters == (("A", "1"),)
