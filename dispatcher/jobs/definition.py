# SPDX-License-Identifier: MIT
"""Test definitions: what `install`, `run`, `parse` and the parameters of one say."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import regex

from dispatcher.jobs.model import Checkout, Definition, Place, Step
from dispatcher.jobs.repositories import Repositories
from dispatcher.jobs.source import (
    JobError,
    Map,
    Node,
    Remarks,
    Scalar,
    as_list,
    as_map,
    as_text,
    as_texts,
    check_rendered,
    plain,
)
from toolkit.wire.vocabulary import RESULTS

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")

_KEYS = {"metadata", "params", "parameters", "install", "run", "parse", "expected"}
_INSTALL_KEYS = {"deps", "keys", "sources", "steps", "git-repos"}
_PARSE_KEYS = {"pattern", "fixupdict"}
# A repeat takes memory for each time that it asks for at least: some 300 bytes, and those inside of it as often.
_MAX_REPEATED = 100_000
_PATTERN_PART = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<open>\()|(?P<close>\))|\{(?P<least>\d+)[^}]*\}|.", re.DOTALL
)
# With these a pattern may have comments, and blanks that mean nothing.
_COMMENTS = re.compile(r"\(\?(?:#|[a-zA-Z0-9-]*x)")
_LEAST = re.compile(r"\{(\d+)")
# What `skip_install` may leave out.
_PARTS = ("keys", "sources", "deps", "steps", "git-repos")


@dataclass(frozen=True, slots=True)
class Use:
    """How a job uses a definition.

    `around` is the folder that local paths in it count from; `parameters` are the job's, and `skip` the
    parts of `install` that it leaves out. `distribution` is what the device would run.
    """

    name: str
    checkout: Checkout | None
    around: Path
    parameters: tuple[tuple[str, str], ...] = ()
    skip: frozenset[str] = frozenset()
    distribution: str | None = None


def read_definition(tree: Node, use: Use, repositories: Repositories, remarks: Remarks) -> Definition:
    """The definition in a file, or in a job. Raises JobError."""
    definition = as_map(tree, "a test definition")
    check_keys(definition, _KEYS, "a test definition", remarks)
    parameters = (
        *read_parameters(definition, "params"),
        *read_parameters(definition, "parameters"),
        *use.parameters,
    )
    install = definition.get("install")
    install_steps: tuple[Step, ...] = ()
    cloned: tuple[tuple[str, Checkout], ...] = ()
    if install is not None:
        install = as_map(install, "install")
        known = _INSTALL_KEYS | {key for key in install.items if key.startswith("deps-")}
        check_keys(install, known, "install", remarks)
        _tell_of_the_rest(install, use, remarks)
        if "steps" not in use.skip:
            install_steps = _steps(install, "install")
        if "git-repos" not in use.skip:
            cloned = tuple(_git_repositories(install, dict(parameters), use, repositories, remarks))
    run = definition.get("run")
    steps: tuple[Step, ...] = ()
    if run is None:
        remarks.add(definition.place, f"the definition {use.name} has no 'run: steps': nothing is run for it")
    else:
        run = as_map(run, "run")
        check_keys(run, {"steps"}, "run", remarks)
        steps = _steps(run, "run")
    pattern, fixups = _parse(definition, remarks)
    return Definition(
        name=use.name,
        place=definition.place,
        parameters=parameters,
        install=install_steps,
        steps=steps,
        checkout=use.checkout,
        pattern=pattern,
        fixups=fixups,
        repositories=cloned,
    )


def definition_name(text: str, place: Place | str) -> str:
    """The name, if a run can be called that; raises JobError."""
    if not _NAME.fullmatch(text) or text in (".", ".."):
        raise JobError(
            place, f"a definition can't be called {text[:60]!r}: a name has letters, digits, '-', '_' and '.'"
        )
    return text


def check_keys(node: Map, known: Iterable[str], what: str, remarks: Remarks) -> None:
    """Remark keys that nobody knows. Raises JobError for one that is a slip: it would be passed over."""
    for key, place in node.keys.items():
        if key in known:
            continue
        close = get_close_matches(key, list(known), n=1, cutoff=0.75)
        if close and close[0] not in node.items:
            raise JobError(place, f"{what} has no {key!r}; did you mean {close[0]!r}?")
        remarks.add(place, f"{what} has no {key[:60]!r}: it is ignored, and LAVA would refuse it")


def read_parameters(node: Map, key: str) -> list[tuple[str, str]]:
    """Shell variables, with their values as LAVA writes them. Raises JobError."""
    values = node.get(key)
    if values is None:
        return []
    parameters = []
    for name, value in as_map(values, key).items.items():
        place = as_map(values, key).keys[name]
        if not _VARIABLE.fullmatch(name):
            raise JobError(
                place, f"the parameter {name[:60]!r} can't be a shell variable; use letters, digits and '_'"
            )
        content = plain(value)
        text = "" if content is None else str(content)
        if "\0" in text:
            raise JobError(place, f"the parameter {name} has a character in it that a shell can't have")
        parameters.append((name, text))
    return parameters


def skipped_parts(entry: Map) -> frozenset[str]:
    """The parts of `install` that `skip_install` leaves out."""
    content = entry.get("skip_install")
    parts = [] if content is None else as_texts(content, "skip_install")
    for part in parts:
        if content is not None and part not in (*_PARTS, "all"):
            raise JobError(content.place, f"skip_install has {', '.join(_PARTS)} or all, not {part[:40]!r}")
    return frozenset(_PARTS if "all" in parts else parts)


def _tell_of_the_rest(install: Map, use: Use, remarks: Remarks) -> None:
    """What of `install` is not carried out here: keys, sources and packages."""
    for key in ("keys", "sources"):
        values = install.get(key)
        if values is not None and key not in use.skip:
            as_texts(values, f"install: {key}")
            remarks.add(install.keys[key], f"install: {key} is not carried out")
    names: list[str] = []
    for key in () if "deps" in use.skip else ("deps", f"deps-{use.distribution}"):
        values = install.get(key)
        if values is not None:
            names += as_texts(values, f"install: {key}")
    if names:
        remarks.add(
            install.keys.get("deps", install.place),
            f"install: deps {' '.join(names)} is skipped: install what is missing on this machine",
        )


def _steps(node: Map, what: str) -> tuple[Step, ...]:
    content = node.get("steps")
    if content is None:
        return ()
    steps = []
    for item in as_list(content, f"{what}: steps"):
        if isinstance(item, Map):
            raise JobError(
                item.place, "this step is a mapping, as it has ': ' in it; put quotes around the whole step"
            )
        if not isinstance(item, Scalar):
            raise JobError(item.place, "this step is a list; put quotes around the whole step")
        if item.value is not None:
            if "\0" in item.text:
                raise JobError(item.place, "this step has a character in it that a shell can't have")
            steps.append(Step(item.text, item.place))
    return tuple(steps)


def _git_repositories(
    install: Map, parameters: Mapping[str, str], use: Use, repositories: Repositories, remarks: Remarks
) -> Iterable[tuple[str, Checkout]]:
    content = install.get("git-repos")
    items: Sequence[Node] = [] if content is None else as_list(content, "install: git-repos")
    for item in items:
        branch, folder = None, None
        if isinstance(item, Map):
            check_keys(item, {"url", "branch", "destination", "skip_by_default"}, "git-repos", remarks)
            url_node = item.get("url")
            if url_node is None:
                raise JobError(item.place, "there is no url; add 'url: https://...'")
            url = _looked_up(url_node, parameters)
            branch_node, folder_node = item.get("branch"), item.get("destination")
            branch = None if branch_node is None else _looked_up(branch_node, parameters)
            folder = None if folder_node is None else _looked_up(folder_node, parameters)
        else:
            url = as_text(item, "a git repository")
        folder = folder or url.rstrip("/").removesuffix(".git").rpartition("/")[2]
        if folder in ("", ".", "..") or "/" in folder or "\0" in folder:
            raise JobError(item.place, f"the destination {folder!r:.60} is not the name of a folder")
        if repositories.find(url, use.around, item.place) is None:
            remarks.add(
                item.place, f"install: git-repos {url} is not here; clone it, and add --repo {url}=DIR"
            )
        else:
            yield folder, repositories.checkout(url, branch, None, item.place, use.around, remarks)


def _looked_up(node: Node, parameters: Mapping[str, str]) -> str:
    """A word may be the name of a parameter."""
    text = as_text(node, "a word of git-repos")
    return parameters.get(text, text)


def _parse(definition: Map, remarks: Remarks) -> tuple[str | None, dict[str, str]]:
    node = definition.get("parse")
    if node is None:
        return None, {}
    node = as_map(node, "parse")
    check_keys(node, _PARSE_KEYS, "parse", remarks)
    fixups: dict[str, str] = {}
    fixup_node = node.get("fixupdict")
    if fixup_node is not None:
        for word, value in as_map(fixup_node, "fixupdict").items.items():
            fixups[word] = as_text(value, f"the result for {word!r:.40}")
            if fixups[word] not in RESULTS:
                raise JobError(
                    value.place, f"a result is one of {', '.join(RESULTS)}, not {fixups[word][:40]!r}"
                )
    pattern_node = node.get("pattern")
    if pattern_node is None or (isinstance(pattern_node, Scalar) and not pattern_node.text):
        return None, fixups
    if not isinstance(pattern_node, Scalar):
        raise JobError(pattern_node.place, "pattern should be a regular expression; put quotes around it")
    check_pattern(pattern_node)
    return pattern_node.text, fixups


def check_pattern(node: Scalar) -> None:
    """Raises JobError if this is no regular expression for results."""
    if _repeated(node.text) > _MAX_REPEATED:
        raise JobError(node.place, f"the pattern repeats parts of it more than {_MAX_REPEATED} times in all")
    try:
        compiled = regex.compile(node.text)
    except (regex.error, RecursionError, OverflowError) as error:
        raise JobError(node.place, f"the pattern is no regular expression: {error}") from None
    missing = {"test_case_id", "result"} - compiled.groupindex.keys()
    if missing:
        check_rendered(node)
        names = " and ".join(f"(?P<{name}>...)" for name in sorted(missing, reverse=True))
        raise JobError(node.place, f"the pattern has no group {names}, so it can't find a result")


def _repeated(pattern: str) -> int:
    """How many parts the pattern has once each is written as often as it is repeated at least; or more."""
    if _COMMENTS.search(pattern):
        # What is a comment is not told apart: it may be that each repeat stands in all others.
        return len(pattern) * math.prod(int(least) or 1 for least in _LEAST.findall(pattern))
    sizes = [0]  # of the groups that are open
    last = 0  # the part that a repeat counts for
    for part in _PATTERN_PART.finditer(pattern):
        if part["open"]:
            sizes.append(0)
            continue
        if part["least"]:
            last = min(last * int(part["least"]), _MAX_REPEATED + 1)
            sizes[-1] += last
            continue
        last = sizes.pop() if part["close"] and len(sizes) > 1 else 1
        sizes[-1] += last
    return max(sizes)
