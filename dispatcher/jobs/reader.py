# SPDX-License-Identifier: MIT
"""Job files: LAVA's MultiNode jobs in YAML, and single test definitions.

Everything is read before anything runs, and every mistake is told with its file and line. What a job
asks for and does not get here becomes a remark.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from dispatcher.errors import UsageError
from dispatcher.files import open_regular
from dispatcher.jobs.definition import (
    Use,
    check_keys,
    definition_name,
    read_definition,
    read_parameters,
    skipped_parts,
)
from dispatcher.jobs.model import Checkout, Definition, Job, Place, Request, Role, TestAction
from dispatcher.jobs.repositories import Repositories, toplevel
from dispatcher.jobs.source import (
    MAX_BYTES,
    Items,
    JobError,
    Map,
    Node,
    Remarks,
    Scalar,
    as_list,
    as_map,
    as_seconds,
    as_text,
    as_truth,
    as_whole_number,
    check_rendered,
    parse,
    plain,
)
from dispatcher.names import check_name

# The role of the device of a job without MultiNode.
SINGLE_ROLE = "device"
MOST_REPETITIONS = 1000
MOST_DEVICES = 1000

_JOB_KEYS = {
    *("job_name", "device_type", "device", "worker", "timeouts", "visibility", "context", "metadata"),
    *("priority", "tags", "secrets", "environment", "protocols", "notify", "reboot_to_fastboot", "actions"),
}
_ROLE_KEYS = {
    *("device_type", "count", "device", "worker", "context", "tags", "environment", "essential", "timeout"),
    *("connection", "expect_role", "host_role", "request"),
}
_ACTION_KEYS = {
    *("role", "timeout", "timeouts", "protocols", "namespace", "connection-namespace", "repeat"),
    *("failure_retry", "failure_retry_interval"),
}
_TEST_KEYS = {*_ACTION_KEYS, "definitions", "interactive", "monitors", "services", "docker", "os", "name"}
_DEFINITION_KEYS = {
    *("from", "repository", "path", "name", "parameters", "params", "branch", "revision", "history"),
    *("recursive", "skip_install", "lava-signal", "expected", "compression", "strip-components", "headers"),
}
_REQUEST_KEYS = {"action", "request", "messageID", "role", "message", "timeout"}
_REQUESTS = ("lava-send", "lava-wait", "lava-wait-all", "lava-sync")
_KINDS = ("deploy", "boot", "test", "command")
_SOURCES = ("inline", "git", "url", "tar", "bzr")

# Test actions without a shell, and why they are left out.
_NO_SHELL = {
    "interactive": "an interactive test action talks to a prompt that is not here",
    "monitors": "'monitors' read the console of a system that is not here",
    "services": "'services' would start containers",
}


def read_job(path: Path, repositories: Repositories) -> Job:
    """The job in a file. Raises JobError."""
    return _JobReader(path, repositories).read()


def is_definition(path: Path) -> bool:
    """Whether a file has a single test definition, and no job. Raises JobError."""
    tree = parse(_data(path), str(path), Remarks())
    return (
        isinstance(tree, Map) and "actions" not in tree.items and bool(tree.items.keys() & {"run", "install"})
    )


def read_bare_definition(path: Path, repositories: Repositories, remarks: Remarks) -> Definition:
    """The definition in a file of its own, which runs in a copy of the clone around it. Raises JobError."""
    tree = as_map(parse(_data(path), str(path), remarks), "a test definition")
    if "actions" in tree.items:
        raise JobError(str(path), "this is a job, not a test definition; run it by `lavabox sim FILE`")
    use = Use(definition_name(path.stem, str(path)), Checkout(toplevel(path.resolve())), path.parent)
    return read_definition(tree, use, repositories, remarks)


def _data(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise JobError(str(path), f"this file can't be read: {error.strerror}") from None


class _JobReader:
    def __init__(self, path: Path, repositories: Repositories) -> None:
        self._path = path
        self._repositories = repositories
        self._remarks = Remarks()
        self._trees: dict[tuple[Checkout, str], Node] = {}
        self._action_timeout: float | None = None

    def read(self) -> Job:
        tree = parse(_data(self._path), str(self._path), self._remarks)
        job = self._checked(tree)
        job_timeout = self._timeouts(job)
        environment = _environment(job)
        actions = [self._action(item) for item in as_list(_needed(job, "actions", "the job"), "actions")]
        roles = self._roles(job, environment)
        names = [role.name for role in roles]
        for _, action in actions:
            _role_names(action, names)
        self._say_what_is_skipped(actions)
        read = tuple(self._with_actions(role, actions, names) for role in roles)
        name = job.get("job_name")
        if name is not None:
            as_text(name, "job_name")
        return Job(
            name=name.text if isinstance(name, Scalar) else self._path.stem,
            place=job.place,
            roles=read,
            timeout=job_timeout,
            remarks=self._remarks.all(),
        )

    # The whole

    def _checked(self, tree: Node) -> Map:
        """The job, if it is one of the format that is known here."""
        job = as_map(tree, "a job")
        actions = job.get("actions")
        old = "device_group" in job.items or (
            isinstance(actions, Items)
            and any(
                isinstance(item, Map) and isinstance(item.get("command"), Scalar) for item in actions.items
            )
        )
        if old:
            raise JobError(
                job.place,
                "this is a job of LAVA's first format (JSON, until 2017), which is not read here; write it as a job "
                "in YAML, with 'protocols: lava-multinode: roles' and 'actions: - test'",
            )
        if "actions" not in job.items:
            if job.items.keys() & {"run", "install"}:
                raise JobError(
                    job.place,
                    "this is a test definition; say which devices run it, as in `lavabox sim FILE --role client*2`",
                )
            raise JobError(job.place, "this is not a job: it has no 'actions'")
        check_keys(job, _JOB_KEYS, "a job", self._remarks)
        for key in ("secrets", "notify"):
            if job.get(key) is not None:
                self._remarks.add(job.keys[key], f"{key} is not carried out")
        return job

    def _timeouts(self, job: Map) -> float | None:
        timeouts = job.get("timeouts")
        if timeouts is None:
            return None
        timeouts = as_map(timeouts, "timeouts")
        known = {"job", "action", "actions", "connection", "connections", "queue"}
        check_keys(timeouts, known, "timeouts", self._remarks)
        for key in ("connection", "queue"):
            _seconds(timeouts, key, "timeouts")
        self._action_timeout = _seconds(timeouts, "action", "timeouts")
        return _seconds(timeouts, "job", "timeouts")

    def _roles(self, job: Map, environment: tuple[tuple[str, str], ...]) -> list[Role]:
        protocols = job.get("protocols")
        multinode = None if protocols is None else as_map(protocols, "protocols").get("lava-multinode")
        if protocols is not None:
            check_keys(
                as_map(protocols, "protocols"),
                {"lava-multinode", "lava-lxc", "lava-xnbd"},
                "protocols",
                self._remarks,
            )
        if multinode is None:
            return [Role(SINGLE_ROLE, 1, job.place, environment=environment)]
        multinode = as_map(multinode, "lava-multinode")
        if "target_group" in multinode.items or "group_size" in multinode.items:
            raise JobError(
                multinode.place,
                "this is the part of a job that LAVA gave to one device; name the job as it was submitted",
            )
        check_keys(multinode, {"roles", "timeout"}, "lava-multinode", self._remarks)
        content = as_map(_needed(multinode, "roles", "lava-multinode"), "roles")
        wait_timeout = _seconds(multinode, "timeout", "lava-multinode")
        if not content.items:
            raise JobError(content.place, "there are no roles")
        return [
            self._role(name, content.keys[name], node, content, wait_timeout, environment)
            for name, node in content.items.items()
        ]

    def _role(
        self,
        name: str,
        place: Place,
        node: Node,
        roles: Map,
        wait_timeout: float | None,
        environment: tuple[tuple[str, str], ...],
    ) -> Role:
        check_rendered(Scalar(place, name, name))
        try:
            check_name("role", name)
        except UsageError as error:
            raise JobError(place, str(error)) from None
        role = as_map(node, f"role {name!r}")
        check_keys(role, _ROLE_KEYS, f"role {name!r}", self._remarks)
        count_node = role.get("count")
        if count_node is None:
            raise JobError(place, f"role {name!r} has no count; add 'count: 1'")
        count = as_whole_number(count_node, "count")
        if not 0 <= count <= MOST_DEVICES:
            raise JobError(count_node.place, f"count is from 0 to {MOST_DEVICES}, not {count}")
        essential = role.get("essential")
        return Role(
            name=name,
            count=count,
            place=place,
            wait_timeout=_seconds(role, "timeout", f"role {name!r}") or wait_timeout,
            starts_after=self._starts_after(name, role, roles),
            essential=essential is not None and as_truth(essential, "essential"),
            environment=(*environment, *_environment(role)),
        )

    def _starts_after(self, name: str, role: Map, roles: Map) -> str | None:
        request = role.get("request")
        if request is None:
            return None
        if as_text(request, "request") != "lava-start":
            raise JobError(request.place, f"the request of a role is lava-start, not {_text(request)!r:.40}")
        expected = role.get("expect_role")
        if expected is None:
            raise JobError(
                request.place, f"role {name!r} waits for a start of no role; add 'expect_role: ROLE'"
            )
        _known_role(expected, list(roles.items))
        if _text(expected) == name:
            raise JobError(expected.place, f"role {name!r} would wait for its own start")
        return _text(expected)

    # Actions

    def _action(self, item: Node) -> tuple[str, Map]:
        """Its kind and what it says."""
        action = as_map(item, "an action")
        if len(action.items) != 1:
            raise JobError(
                action.place,
                f"an action is one of {', '.join(_KINDS)}, and not {len(action.items)} keys side by side; "
                "indent what belongs to it",
            )
        ((kind, content),) = action.items.items()
        if kind not in _KINDS:
            check_rendered(Scalar(action.place, kind, kind))
            raise JobError(
                action.place, f"there is no action {kind[:60]!r}; it is one of {', '.join(_KINDS)}"
            )
        body = as_map(content, kind)
        if kind == "test":
            check_keys(body, _TEST_KEYS, "a test action", self._remarks)
        elif "roles" in body.items and "role" not in body.items:
            raise JobError(body.keys["roles"], f"{kind} has no 'roles'; did you mean 'role'?")
        return kind, body

    def _say_what_is_skipped(self, actions: Sequence[tuple[str, Map]]) -> None:
        skipped = [(kind, body.place) for kind, body in actions if kind != "test"]
        if skipped:
            kinds = [kind for kind in _KINDS if kind in {kind for kind, _ in skipped}]
            verb = "is" if len(kinds) == 1 else "are"
            self._remarks.add(
                skipped[0][1],
                f"{_joined(kinds)} {verb} not carried out: each device is a shell on this machine",
            )
        spaces = {
            _text(body.items["namespace"])
            for kind, body in actions
            if kind == "test" and body.get("namespace") is not None
        }
        if len(spaces) > 1:
            self._remarks.add(
                actions[0][1].place,
                f"the namespaces {_joined(sorted(spaces))} are one shell on each device here",
            )

    def _with_actions(self, role: Role, actions: Sequence[tuple[str, Map]], names: Sequence[str]) -> Role:
        mine = [(kind, body) for kind, body in actions if role.name in _role_names(body, names)]
        distribution = None
        for kind, body in mine:
            system = body.get("os") if kind == "deploy" else None
            if isinstance(system, Scalar):
                distribution = system.text
        read: list[TestAction] = []
        for kind, body in mine:
            action = self._read_action(kind, body, distribution, names)
            if action.definitions or action.requests:
                read += [action] * self._repetitions(kind, body)
        return replace(role, actions=tuple(read), distribution=distribution)

    def _repetitions(self, kind: str, body: Map) -> int:
        repeat = body.get("repeat")
        if repeat is None or kind != "test":
            return 1
        number = as_whole_number(repeat, "repeat")
        if not 1 <= number <= MOST_REPETITIONS:
            raise JobError(repeat.place, f"repeat is from 1 to {MOST_REPETITIONS}, not {number}")
        return number

    def _read_action(
        self, kind: str, body: Map, distribution: str | None, names: Sequence[str]
    ) -> TestAction:
        requests = tuple(self._requests(body, names))
        definitions: list[Definition] = []
        if kind == "test":
            content = body.get("definitions")
            if content is not None:
                definitions = [
                    self._definition(item, distribution) for item in as_list(content, "definitions")
                ]
                if body.get("docker") is not None:
                    self._remarks.add(
                        body.keys["docker"], "the docker test shell runs on the device itself here"
                    )
            else:
                self._no_definitions(body)
        timeout = _seconds(body, "timeout", kind)
        return TestAction(
            place=body.place,
            requests=requests,
            definitions=tuple(definitions),
            timeout=(timeout or self._action_timeout) if kind == "test" else None,
        )

    def _no_definitions(self, body: Map) -> None:
        for key, reason in _NO_SHELL.items():
            if key in body.items:
                sentence = f"{reason}: it is left out, with all that it would send"
                self._remarks.add(body.keys[key], sentence, hides_calls=True)
                return
        raise JobError(body.place, "this test action has no definitions; add 'definitions:' with a list")

    def _requests(self, body: Map, names: Sequence[str]) -> Iterator[Request]:
        protocols = body.get("protocols")
        content = None if protocols is None else as_map(protocols, "protocols").get("lava-multinode")
        if content is None:
            return
        for item in [content] if isinstance(content, Map) else as_list(content, "lava-multinode"):
            request = as_map(item, "a request")
            check_keys(request, _REQUEST_KEYS, "a request", self._remarks)
            command_node = _needed(request, "request", "this request")
            command = as_text(command_node, "request").replace("_", "-")
            if command not in _REQUESTS:
                raise JobError(
                    command_node.place, f"a request is one of {', '.join(_REQUESTS)}, not {command!r:.40}"
                )
            id_node = _needed(request, "messageID", "this request")
            message_id = as_text(id_node, "messageID")
            if not _is_word(message_id):
                raise JobError(
                    id_node.place, f"a messageID has no white space and no '=' in it: {message_id!r:.60}"
                )
            role_node = request.get("role")
            role = None
            if role_node is not None and command == "lava-wait-all":
                role = _known_role(role_node, names)
            timeout_node = request.get("timeout")
            yield Request(
                command=command,
                message_id=message_id,
                place=request.place,
                role=role,
                data=tuple(self._data(request)) if command == "lava-send" else (),
                timeout=None if timeout_node is None else _request_seconds(timeout_node),
            )

    def _data(self, request: Map) -> Iterator[tuple[str, str]]:
        message = request.get("message")
        if message is None:
            return
        for key, node in as_map(message, "message").items.items():
            content = plain(node)
            value = "" if content is None else str(content)
            if not _is_word(key) or set(value) & set("\0\r\n"):
                raise JobError(node.place, "a message has keys without white space, and values of one line")
            if value.startswith("$"):
                self._remarks.add(
                    node.place, f"{value!r:.60} would be filled in by LAVA's dispatcher: it is sent as it is"
                )
            yield key, value

    def _definition(self, item: Node, distribution: str | None) -> Definition:
        entry = as_map(item, "a definition")
        check_keys(entry, _DEFINITION_KEYS, "a definition", self._remarks)
        source_node = _needed(entry, "from", "this definition")
        source = as_text(source_node, "from")
        if source not in _SOURCES:
            raise JobError(source_node.place, f"'from' is one of {', '.join(_SOURCES)}, not {source!r:.40}")
        repository = _needed(entry, "repository", "this definition")
        path_node = entry.get("path")
        path = None if path_node is None else as_text(path_node, "path")
        name_node = entry.get("name")
        if name_node is None:
            self._remarks.add(
                entry.place, "a definition without a name is called like its file; LAVA would refuse it"
            )
            name = definition_name(Path(path or "inline").stem, entry.place)
        else:
            name = definition_name(as_text(name_node, "name"), name_node.place)
        if "expected" in entry.items:
            self._remarks.add(
                entry.keys["expected"], "'expected' is ignored: a missing test case is no failure"
            )
        parameters = (*read_parameters(entry, "parameters"), *read_parameters(entry, "params"))
        skip = skipped_parts(entry)
        checkout = None
        if source == "inline":
            tree: Node = as_map(repository, "the repository of an inline definition")
        else:
            if path is None:
                raise JobError(
                    entry.place, "there is no path to the definition in the repository; add 'path:'"
                )
            checkout = self._checkout(entry, repository)
            tree = self._file(checkout, path, path_node or entry)
        use = Use(name, checkout, self._path.parent, parameters, skip, distribution)
        return read_definition(tree, use, self._repositories, self._remarks)

    def _checkout(self, entry: Map, repository: Node) -> Checkout:
        url = as_text(repository, "repository")
        branch, revision = entry.get("branch"), entry.get("revision")
        return self._repositories.checkout(
            url,
            None if branch is None else as_text(branch, "branch"),
            None if revision is None else as_text(revision, "revision"),
            repository.place,
            self._path.parent,
            self._remarks,
        )

    def _file(self, checkout: Checkout, path: str, node: Node) -> Node:
        if (checkout, path) not in self._trees:
            data = self._repositories.read_file(checkout, path, node.place)
            name = str(checkout.folder / path)
            if checkout.revision is not None:
                name += f" at {checkout.revision[:12]}"
            self._trees[checkout, path] = parse(data, name, self._remarks)
        return self._trees[checkout, path]


def _needed(node: Map, key: str, what: str) -> Node:
    found = node.get(key)
    if found is None:
        raise JobError(node.keys.get(key, node.place), f"{what} has no {key!r}; add it")
    return found


def _seconds(node: Map, key: str, what: str) -> float | None:
    found = node.get(key)
    return None if found is None else as_seconds(found, f"{what}: {key}")


def _request_seconds(node: Node) -> float:
    if isinstance(node, Scalar):
        return float(as_whole_number(node, "timeout"))
    return as_seconds(node, "timeout")


def _environment(node: Map) -> tuple[tuple[str, str], ...]:
    return tuple(read_parameters(node, "environment"))


def _text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def _is_word(text: str) -> bool:
    return bool(text) and not any(character <= " " or character in "=\x7f" for character in text)


def _role_names(body: Map, names: Sequence[str]) -> list[str]:
    """The roles that carry an action out: all, if it names none."""
    content = body.get("role")
    if content is None:
        return list(names)
    nodes = [content] if isinstance(content, Scalar) else as_list(content, "role")
    if names == [SINGLE_ROLE] and all(_text(node) != SINGLE_ROLE for node in nodes):
        raise JobError(content.place, "the job has no roles; add 'protocols: lava-multinode: roles'")
    return [_known_role(node, names) for node in nodes]


def _known_role(node: Node, names: Sequence[str]) -> str:
    name = as_text(node, "role")
    if name not in names:
        close = get_close_matches(name, list(names), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the roles are {', '.join(names)}"
        raise JobError(node.place, f"there is no role {name[:60]!r}; {hint}")
    return name


def _joined(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
