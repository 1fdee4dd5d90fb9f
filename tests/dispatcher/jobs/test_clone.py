# SPDX-License-Identifier: MIT
"""Clones are read without trusting them: none makes git run a program, or reads what is not its own."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.errors import SetupError
from dispatcher.jobs import clone as clone_module
from dispatcher.jobs.clone import Clone, GitError, clone_around
from dispatcher.jobs.model import Checkout, Place
from dispatcher.jobs.repositories import Repositories
from dispatcher.jobs.source import JobError, Remarks
from tests.dispatcher.jobs.hostile import DEFINITION, SETTINGS, Hostile, commit_of, git, make_clone, store
from tests.dispatcher.lavabox_process import Lavabox

HERE = Place("job.yaml", 1)
URL = "https://example.org/tests"


@pytest.fixture
def hostile(tmp_path: Path) -> Hostile:
    return Hostile(tmp_path)


def use(folder: Path, branch: str | None, destination: Path) -> str:
    """Do with a clone all that is done for a job: what `def.yaml` says."""
    repositories = Repositories({URL: folder})
    checkout = repositories.checkout(URL, branch, None, HERE, folder.parent, Remarks())
    data = repositories.read_file(checkout, "def.yaml", HERE)
    assert "def.yaml" in repositories.list_files(checkout)
    with pytest.raises(SetupError, match="there is no file"):
        repositories.read_file(checkout, "none.yaml", HERE)
    repositories.copy(checkout, destination)
    assert (destination / "def.yaml").read_bytes() == data
    if (folder / ".git").exists():
        assert Repositories().find(URL, folder, HERE) is None
    return data.decode()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clone(tmp_path_factory.mktemp("template") / "clone")


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_setting_runs_a_program(tmp_path: Path, template: Path, hostile: Hostile, setting: str) -> None:
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    shutil.copytree(template / ".git", tmp_path / "bare", symlinks=True)
    git(tmp_path, "--git-dir", "bare", "config", "core.bare", "true")
    hostile.arm(tmp_path / "clone" / ".git", setting)
    hostile.arm(tmp_path / "bare", setting)
    assert use(tmp_path / "clone", "main", tmp_path / "1") == DEFINITION % "main"
    assert use(tmp_path / "clone", "stable", tmp_path / "2") == DEFINITION % "stable"
    assert use(tmp_path / "clone", None, tmp_path / "3") == DEFINITION % "main"
    assert use(tmp_path / "bare", "stable", tmp_path / "4") == DEFINITION % "stable"
    assert use(tmp_path / "bare", None, tmp_path / "5") == DEFINITION % "main"
    for folder in (tmp_path / "clone" / ".git", tmp_path / "bare"):
        hostile.lose_a_blob(folder, "stable:def.yaml")
    for folder in (tmp_path / "clone", tmp_path / "bare"):
        with pytest.raises(SetupError, match=r"'def.yaml' is missing at"):
            use(folder, "stable", tmp_path / "6")
    assert hostile.ran() == ""


def test_the_program_would_run(tmp_path: Path, template: Path, hostile: Hostile) -> None:
    """With git as it is, so that the tests above say something."""
    for setting, command in [
        ("fsmonitor", ("ls-files", "--others")),
        ("smudge and clean", ("archive", "stable")),
        ("filter process", ("archive", "stable")),
        ("archive", ("archive", "--format=x", "stable")),
        ("include", ("ls-files", "--others")),
        ("include if", ("ls-files", "--others")),
        ("configuration of the work tree", ("ls-files", "--others")),
        ("promisor", ("cat-file", "-p", "stable:def.yaml")),
    ]:
        folder = tmp_path / setting
        shutil.copytree(template, folder, symlinks=True)
        hostile.arm(folder / ".git", setting)
        if setting == "promisor":
            hostile.lose_a_blob(folder / ".git", "stable:def.yaml")
        hostile.canary.unlink(missing_ok=True)
        subprocess.run(["git", *command], cwd=folder, capture_output=True, check=False)
        assert hostile.ran(), setting


JOB = """\
job_name: x
protocols: {lava-multinode: {roles: {a: {count: 1}}}}
actions:
- test:
    role: a
    definitions:
    - {from: git, repository: %s, path: def.yaml, name: bare, branch: stable}
    - {from: git, repository: 'https://example.org/tests', path: def.yaml, name: folder, branch: stable}
    - {from: git, repository: 'https://example.org/tests', path: def.yaml, name: tree}
    - from: inline
      name: cloned
      path: x.yaml
      repository:
        install: {git-repos: [./bare]}
        run: {steps: [cat bare/def.yaml]}
"""


def test_whole_programs_run_none(tmp_path: Path, template: Path, hostile: Hostile, box: Path) -> None:
    """All settings at once, in a bare repository that an ordinary clone has as files, and in an unpacked folder."""
    outer = make_clone(tmp_path / "outer")
    shutil.copytree(template / ".git", outer / "bare", symlinks=True)
    shutil.copytree(template, tmp_path / "unpacked", symlinks=True)
    alike = [name for name in SETTINGS if "promisor" not in name and name != "remote helper"]
    for folder in (outer / "bare", tmp_path / "unpacked" / ".git", outer / ".git"):
        hostile.arm(folder, *alike, "promisor")
    (outer / "job.yaml").write_text(JOB % "./bare")
    for command in (("sim", "--box", str(box), "job.yaml"), ("flow", "--plan", "job.yaml")):
        with Lavabox(*command, "--repo", f"{URL}=../unpacked", cwd=outer) as process:
            assert process.finish() == 0, process.text
            if command[0] == "sim":
                assert process.text.count("echo stable\n") == 2, process.text
    assert hostile.ran() == ""


def test_environment_is_not_taken(
    tmp_path: Path, template: Path, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a hook, where git says by variables which repository it is about."""
    wrong = make_clone(tmp_path / "wrong")
    (wrong / "def.yaml").write_text(DEFINITION % "wrong")
    git(wrong, "commit", "-qam", "x")
    git(wrong, "branch", "-f", "stable")
    program = str(tmp_path / "program")
    for name, value in {
        "GIT_DIR": str(wrong / ".git"),
        "GIT_WORK_TREE": str(wrong),
        "GIT_INDEX_FILE": str(wrong / ".git" / "index"),
        "GIT_OBJECT_DIRECTORY": str(wrong / ".git" / "objects"),
        "GIT_COMMON_DIR": str(wrong / ".git"),
        "GIT_NAMESPACE": "x",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": program,
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor={program}'",
        "GIT_EXTERNAL_DIFF": program,
        "GIT_PAGER": program,
        "GIT_SSH_COMMAND": program,
        "GIT_TRACE": str(tmp_path / "trace"),
    }.items():
        monkeypatch.setenv(name, value)
    for branch, answer in (("stable", "stable"), ("main", "main"), (None, "main")):
        assert use(template, branch, tmp_path / f"to {branch}") == DEFINITION % answer
    assert clone_around(template) == template
    assert hostile.ran() == ""
    assert not (tmp_path / "trace").exists()


def test_git_of_a_relative_path_is_not_run(
    tmp_path: Path, template: Path, hostile: Hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    shutil.copy(tmp_path / "program", tmp_path / "clone" / "git")
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}:")
    monkeypatch.chdir(tmp_path / "clone")
    assert use(tmp_path / "clone", "stable", tmp_path / "to") == DEFINITION % "stable"
    assert hostile.ran() == ""


# Kinds of clones


def shallow(folder: Path, template: Path) -> Path:
    git(folder, "clone", "-q", "--depth=1", "--no-single-branch", f"file://{template}", "clone")
    return folder / "clone"


def packed(folder: Path, template: Path) -> Path:
    shutil.copytree(template, folder / "clone", symlinks=True)
    git(folder / "clone", "gc", "-q")
    assert not (folder / "clone" / ".git" / "refs" / "heads" / "stable").exists()
    return folder / "clone"


def sha256(folder: Path, template: Path) -> Path:
    return make_clone(folder / "clone", "--object-format=sha256")


def work_tree(folder: Path, template: Path) -> Path:
    shutil.copytree(template, folder / "main", symlinks=True)
    git(folder / "main", "switch", "-q", "--detach")
    git(folder / "main", "worktree", "add", "-q", folder / "clone", "main")
    return folder / "clone"


def work_tree_of_bare(folder: Path, template: Path) -> Path:
    git(folder, "clone", "-q", "--bare", str(template), "bare.git")
    git(folder / "bare.git", "worktree", "add", "-q", folder / "clone", "main")
    return folder / "clone"


def hidden_bare(folder: Path, template: Path) -> Path:
    git(folder, "clone", "-q", "--bare", str(template), "clone/.bare")
    (folder / "clone" / ".git").write_text("gitdir: ./.bare\n")
    git(folder / "clone", "config", "core.bare", "false")
    git(folder / "clone", "reset", "-q", "--hard")
    return folder / "clone"


def submodule(folder: Path, template: Path) -> Path:
    make_clone(folder / "outer")
    git(folder / "outer", "-c", "protocol.file.allow=always", "submodule", "-q", "add", str(template), "lib")
    assert (folder / "outer" / "lib" / ".git").is_file()
    return folder / "outer" / "lib"


def split_index(folder: Path, template: Path) -> Path:
    shutil.copytree(template, folder / "clone", symlinks=True)
    git(folder / "clone", "update-index", "--split-index")
    assert list((folder / "clone" / ".git").glob("sharedindex.*"))
    return folder / "clone"


def other_user(folder: Path, template: Path) -> Path:
    shutil.copytree(template, folder / "clone", symlinks=True)
    if os.geteuid() == 0:
        for path in (folder / "clone", *(folder / "clone").rglob("*")):
            os.chown(path, 12345, 12345, follow_symlinks=False)
    return folder / "clone"


def reftable(folder: Path, template: Path) -> Path:
    try:
        return make_clone(folder / "clone", "--ref-format=reftable")
    except subprocess.CalledProcessError:
        pytest.skip("this git knows no reftable")


@pytest.mark.parametrize(
    "kind",
    [
        *(shallow, packed, sha256, work_tree, work_tree_of_bare, hidden_bare, submodule, split_index),
        *(other_user, reftable),
    ],
)
def test_kinds_of_clones(tmp_path: Path, template: Path, kind: Callable[[Path, Path], Path]) -> None:
    folder = kind(tmp_path, template)
    (folder / "def.yaml").write_text(DEFINITION % "changed")
    (folder / "big.img").write_text("ignored")
    assert use(folder, "main", tmp_path / "1") == DEFINITION % "changed"
    assert use(folder, None, tmp_path / "2") == DEFINITION % "changed"
    assert not (tmp_path / "2" / "big.img").exists()
    assert use(folder, "stable", tmp_path / "3") == DEFINITION % "stable"
    full = git(template, "rev-parse", "stable") if kind is not sha256 else None
    if full and kind is not reftable:
        assert Clone(folder).commit(full[:10]) == full
        assert Clone(folder).commit("0" * 40) is None


def test_names_of_commits(tmp_path: Path, template: Path) -> None:
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    commits = {name: git(tmp_path / "clone", "rev-parse", name) for name in ("main", "stable")}
    git(tmp_path / "clone", "tag", "-a", "-m", "x", "v1", "stable")
    git(tmp_path / "clone", "update-ref", "refs/remotes/origin/old", "stable")
    git(tmp_path / "clone", "update-ref", "refs/remotes/origin/main", "stable")
    clone = Clone(tmp_path / "clone")
    for name, wanted in {
        "main": "main",
        "v1": "stable",
        "old": "stable",
        "origin/main": "stable",
        "HEAD": "main",
        "refs/heads/stable": "stable",
        f"v1-0-g{commits['main'][:9]}": "main",
    }.items():
        assert clone.commit(name) == commits[wanted], name
    assert clone.commit("none") is None
    assert clone.head_branch() == "main"
    git(tmp_path / "clone", "switch", "-q", "--detach")
    assert Clone(tmp_path / "clone").head_branch() is None


def test_remotes(tmp_path: Path, template: Path) -> None:
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    git(tmp_path / "clone", "remote", "add", "a", "https://example.org/a.git")
    git(tmp_path / "clone", "remote", "add", "b", "https://example.org/b.git")
    (tmp_path / "clone" / "deep").mkdir()
    around = tmp_path / "clone" / "deep"
    assert Repositories().find("https://example.org/b/", around, HERE) == tmp_path / "clone"
    assert Repositories().find("https://example.org/c", around, HERE) is None


# Clones that are refused


def no_git(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder / "none"))


def slow_git(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (folder / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(clone_module, "PATIENCE", 0.2)


def slow_wrapper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script, whose program is not killed with it."""
    slow_git(folder, monkeypatch)
    (folder / "bin" / "git").write_text("#!/bin/sh\nsleep 600\n")


def alternates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "clone" / ".git" / "objects" / "info" / "alternates"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{folder}/secret/.git/objects\n")


def linked(part: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, theirs = folder / "clone" / ".git" / part, folder / "secret" / ".git" / part
        if part == "objects":
            ours = next(path for path in ours.iterdir() if len(path.name) == 2)
        shutil.rmtree(ours, ignore_errors=True)
        ours.unlink(missing_ok=True)
        ours.symlink_to(theirs)

    return link


def git_file_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "clone" / ".git")
    (folder / "clone" / ".git").write_text(f"gitdir: {folder}/secret/.git\n")


def work_tree_of_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(folder / "secret", "worktree", "add", "-q", folder / "tree", "-b", "tree")
    shutil.rmtree(folder / "clone" / ".git")
    (folder / "clone" / ".git").write_text(f"gitdir: {folder}/secret/.git/worktrees/tree\n")


def common_folder_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "clone" / ".git" / "commondir").write_text(f"{folder}/secret/.git\n")


def git_link_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "clone" / ".git")
    (folder / "clone" / ".git").symlink_to(folder / "secret" / ".git")


def pipe(part: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def replace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = folder / "clone" / ".git" / part
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return replace


def broken_config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "clone" / ".git" / "config").write_text("[core\n")


def dangling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "clone" / ".git")
    (folder / "clone" / ".git").write_text("gitdir: ../none\n")


def no_head(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "clone" / ".git" / "HEAD").unlink()


def unreadable(part: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    """For other users than root: of such a branch git says that there is none."""

    def forbid(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path, access = folder / "clone" / ".git" / part, os.access
        monkeypatch.setattr(os, "access", lambda name, mode: name != str(path) and access(name, mode))

    return forbid


def complaining_git(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a folder that it may not read: it leaves out what is there, and ends with 0."""
    (folder / "bin").mkdir()
    (folder / "bin" / "git").write_text(
        f"#!/bin/sh\n{shutil.which('git')} \"$@\" && echo 'warning: could not open directory' >&2\n"
    )
    (folder / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")


def lost_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Hostile(folder).lose_a_blob(folder / "clone" / ".git", "stable")


def damaged_ref(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "clone" / ".git" / "refs" / "heads" / "stable").write_text("nonsense\n")


def outside_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree with a name that leads out; git would not make it, so it is written here."""
    clone = folder / "clone"
    blob = git(clone, "rev-parse", "stable:def.yaml")
    data = b"100644 ../x\0" + bytes.fromhex(blob)
    tree = (
        subprocess.run(
            ["git", "hash-object", "-t", "tree", "--literally", "-w", "--stdin"],
            cwd=clone,
            input=data,
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .strip()
    )
    git(clone, "update-ref", "refs/heads/stable", git(clone, "commit-tree", "-m", "x", tree))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_git, "git is not installed"),
        (slow_git, "git has not answered within 0.2 s"),
        (slow_wrapper, "git has not answered within 0.2 s"),
        (complaining_git, "can't be read: could not open directory"),
        (no_head, "its .git is no repository"),
        (unreadable("refs/heads/stable"), "refs/heads/stable: permission denied"),
        (alternates, "it takes objects from another repository"),
        (linked("refs"), "refs is neither a file nor a folder"),
        (linked("objects"), "is neither a file nor a folder"),
        (linked("packed-refs"), "packed-refs is neither a file nor a folder"),
        (linked("index"), "index is neither a file nor a folder"),
        (git_file_elsewhere, "which does not belong to it"),
        (work_tree_of_another, "which does not belong to it"),
        (common_folder_elsewhere, "which does not belong to it"),
        (git_link_elsewhere, "which does not belong to it"),
        (pipe("config"), "it is a named pipe, and not a file"),
        (pipe("commondir"), "it is a named pipe, and not a file"),
        (pipe("packed-refs"), "packed-refs is neither a file nor a folder"),
        (pipe("refs/heads/stable"), "refs/heads/stable is neither a file nor a folder"),
        (pipe("objects/info/x"), "objects/info/x is neither a file nor a folder"),
        (pipe("index"), "index is neither a file nor a folder"),
        (broken_config, "bad config line 1"),
        (dangling, "leads to no repository"),
        (lost_commit, "refs/heads/stable leads to [0-9a-f]{40}, and there is no such commit"),
        (damaged_ref, "stable"),
        (outside_names, "'../x' is no name that a file of a clone may have"),
    ],
    ids=lambda value: getattr(value, "__qualname__", value),
)
def test_what_can_not_be_read_is_an_error(
    tmp_path: Path,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
    sentence: str,
) -> None:
    """And no reason to test another version."""
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    make_clone(tmp_path / "secret")
    spoil(tmp_path, monkeypatch)
    with pytest.raises(SetupError, match=sentence):
        use(tmp_path / "clone", "stable", tmp_path / "to")
    assert not (tmp_path / "to" / "def.yaml").exists()


@pytest.mark.parametrize("name", ["..", ".", ".git", ".GIT", "/x", "a/../../x", ".git/config", "a//b", ""])
def test_names_that_no_file_may_have(template: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    clone = Clone(template)
    monkeypatch.setattr(clone, "_lines", lambda *_: [f"100644 blob {'0' * 40} 1\t{name}"])
    with pytest.raises(GitError, match="is no name that a file of a clone may have"):
        clone.entries("stable")


def test_too_many_files(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone_module, "MAX_FILES", 2)
    clone = Clone(template)
    for ask in (lambda: clone.entries("stable"), clone.work_tree):
        with pytest.raises(GitError, match="more than 2 files"):
            ask()


def test_a_tree_that_grows_without_end(tmp_path: Path, template: Path) -> None:
    """Few objects, 10^30 files."""
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    clone = tmp_path / "clone"
    line = f"100644 blob {git(clone, 'rev-parse', 'stable:def.yaml')}\t"
    for _ in range(30):
        text = "".join(f"{line}{name}\n" for name in "0123456789")
        done = subprocess.run(
            ["git", "mktree"], cwd=clone, input=text, text=True, capture_output=True, check=True
        )
        line = f"040000 tree {done.stdout.strip()}\t"
    git(clone, "update-ref", "refs/heads/stable", git(clone, "commit-tree", "-m", "x", line.split()[2]))
    with pytest.raises(SetupError, match="more than 100000 files"):
        use(clone, "stable", tmp_path / "to")


def test_too_large_files(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone_module, "MAX_SIZE", 10)
    clone = Clone(template)
    commit = clone.commit("stable")
    assert commit is not None
    with pytest.raises(GitError, match="more than 10"):
        clone.extract(commit, tmp_path)
    assert list(tmp_path.iterdir()) == []


# Links


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A commit with a link and a file behind it, which only a hostile one has."""
    clone = make_clone(tmp_path / "clone")
    outside = tmp_path / "outside"
    outside.mkdir()
    blob = git(clone, "rev-parse", "stable:def.yaml")
    (clone / "link").symlink_to(outside)
    git(clone, "add", "link")
    link = git(clone, "rev-parse", ":link")
    inner = subprocess.run(
        ["git", "mktree"],
        cwd=clone,
        input=f"100644 blob {blob}\tx\n",
        text=True,
        capture_output=True,
        check=True,
    ).stdout.strip()
    data = b"120000 a\0" + bytes.fromhex(link) + b"40000 a\0" + bytes.fromhex(inner)
    tree = (
        subprocess.run(
            ["git", "hash-object", "-t", "tree", "--literally", "-w", "--stdin"],
            cwd=clone,
            input=data,
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .strip()
    )
    commit = git(clone, "commit-tree", "-m", "x", tree)
    with pytest.raises(SetupError, match="File exists"):
        Repositories().copy(Checkout(clone, commit), tmp_path / "to")
    assert list(outside.iterdir()) == []


def test_links_of_a_commit(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "clone")
    for name, target in {
        "same.yaml": "def.yaml",
        "loop": "loop",
        "out": "../../x",
        "away": "/etc/passwd",
    }.items():
        (clone / name).symlink_to(target)
    (clone / "run.sh").write_text("x")
    (clone / "run.sh").chmod(0o755)
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "links")
    repositories = Repositories()
    checkout = Checkout(clone, git(clone, "rev-parse", "HEAD"))
    assert repositories.read_file(checkout, "same.yaml", HERE).decode() == DEFINITION % "main"
    for name in ("loop", "out", "away"):
        with pytest.raises(SetupError, match="there is no file"):
            repositories.read_file(checkout, name, HERE)
    repositories.copy(checkout, tmp_path / "to")
    assert os.readlink(tmp_path / "to" / "away") == "/etc/passwd"
    assert (tmp_path / "to" / "run.sh").stat().st_mode & stat.S_IXUSR
    assert not (tmp_path / "to" / "def.yaml").stat().st_mode & stat.S_IXUSR


def test_folder_that_became_a_link(tmp_path: Path) -> None:
    """Git has files of the folder still; what the link leads to is not one of them."""
    clone = make_clone(tmp_path / "clone")
    outside = tmp_path / "outside"
    for folder in (clone / "deep", outside):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "x")
    shutil.rmtree(clone / "deep")
    (clone / "deep").symlink_to(outside)
    names = Repositories().list_files(Checkout(clone))
    assert "deep" in names
    assert "deep/file" not in names


def test_nested_clones_and_special_files_are_left_out(tmp_path: Path, hostile: Hostile) -> None:
    clone = make_clone(tmp_path / "clone")
    hostile.arm(make_clone(clone / "nested") / ".git", *SETTINGS)
    os.mkfifo(clone / "pipe")
    Repositories().copy(Checkout(clone), tmp_path / "to")
    assert sorted(os.listdir(tmp_path / "to")) == [".gitattributes", ".gitignore", "def.yaml"]
    with pytest.raises(SetupError, match="pipe: it is a named pipe, and not a file"):
        Repositories().read_file(Checkout(clone), "pipe", HERE)
    assert hostile.ran() == ""


def test_a_named_pipe_that_git_would_read_is_named_at_once(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "clone")
    (clone / "deep").mkdir()
    os.mkfifo(clone / "deep" / ".gitignore")
    with pytest.raises(SetupError, match=r"deep/\.gitignore is no regular file"):
        Repositories().copy(Checkout(clone), tmp_path / "to")


def test_a_named_pipe_of_a_nested_clone_is_named_at_once(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "clone")
    make_clone(clone / "nested")
    (clone / "nested" / ".git" / "HEAD").unlink()
    os.mkfifo(clone / "nested" / ".git" / "HEAD")
    with pytest.raises(SetupError, match=r"nested/\.git/HEAD is no regular file"):
        Repositories().copy(Checkout(clone), tmp_path / "to")


# What grows when it is read


def test_settings_that_grow_when_they_are_listed(tmp_path: Path, template: Path) -> None:
    """Each key is listed with the name of its section."""
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    section = f'[a "{"x" * 400_000}"]\n'
    (tmp_path / "clone" / ".git" / "config").write_text(section + "b\n" * 100_000)
    with pytest.raises(GitError, match="git prints more than"):
        Clone(tmp_path / "clone")


def test_an_object_that_says_that_it_is_huge(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git has no more memory than it needs."""
    monkeypatch.setattr(clone_module, "_MAX_MEMORY", 64 << 20)
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    name = store(tmp_path / "clone" / ".git", "commit", b"\0" * (100 << 20))
    git(tmp_path / "clone", "update-ref", "refs/heads/main", "HEAD")
    (tmp_path / "clone" / ".git" / "refs" / "heads" / "stable").write_text(f"{name}\n")
    with pytest.raises(GitError, match=r"clone can't be read: .*[Mm]emory"):
        Clone(tmp_path / "clone").commit("stable")


def test_a_name_without_an_end(tmp_path: Path, template: Path) -> None:
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    blob = git(template, "rev-parse", "stable:def.yaml")
    commit = commit_of(tmp_path / "clone", ("100644", "n" * 1_000_000, blob))
    with pytest.raises(GitError, match="a file with a name that is too long"):
        Clone(tmp_path / "clone").entries(commit)


def test_a_link_to_no_name(tmp_path: Path, template: Path) -> None:
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    target = store(tmp_path / "clone" / ".git", "blob", b"a\0b")
    commit = commit_of(tmp_path / "clone", ("120000", "link", target))
    (tmp_path / "to").mkdir()
    with pytest.raises(GitError, match=r"'link' at [0-9a-f]{12} is a link to no name"):
        Clone(tmp_path / "clone").extract(commit, tmp_path / "to")


def deep_folder(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    inside = os.open(folder, os.O_RDONLY)
    for _ in range(250):
        os.mkdir("d", dir_fd=inside)
        inside, outside = os.open("d", os.O_RDONLY, dir_fd=inside), inside
        os.close(outside)
    os.close(inside)


@pytest.mark.parametrize("make", [Path.mkdir, make_clone])
def test_folders_nested_without_an_end(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "tests")
    deep_folder(tmp_path / "tests")
    with pytest.raises(SetupError, match="nested more than 200 deep"):
        Repositories().copy(Checkout(tmp_path / "tests"), tmp_path / "to")


def test_folders_of_a_commit_nested_without_an_end(tmp_path: Path, template: Path) -> None:
    shutil.copytree(template, tmp_path / "clone", symlinks=True)
    tree = git(template, "rev-parse", "stable^{tree}")
    for _ in range(300):
        tree = store(tmp_path / "clone" / ".git", "tree", b"40000 d\0" + bytes.fromhex(tree))
    commit = commit_of(tmp_path / "clone", ("40000", "d", tree))
    with pytest.raises(GitError, match="nested more than 200 folders deep"):
        Clone(tmp_path / "clone").entries(commit)


# What a job may name


@pytest.mark.parametrize("url", ["{secret}", "file://{secret}", "../secret", "./link", "./link/../../secret"])
def test_a_job_names_no_folder_outside_of_its_own(tmp_path: Path, template: Path, url: str) -> None:
    make_clone(tmp_path / "secret")
    for home in (tmp_path / "clone", tmp_path / "folder"):
        shutil.copytree(template, home, symlinks=True)
        (home / "link").symlink_to(tmp_path / "secret")
        (home / "own").mkdir()
        if home.name == "folder":
            shutil.rmtree(home / ".git")
        named = url.format(secret=tmp_path / "secret")
        with pytest.raises(JobError, match=f"leads out of {home}, where the job is; .* add --repo"):
            Repositories().find(named, home, HERE)
        assert Repositories({named: tmp_path / "secret"}).find(named, home, HERE) == tmp_path / "secret"
        assert Repositories().find("./own", home, HERE) == home / "own"
    assert Repositories().find("..", tmp_path / "clone" / "own", HERE) == tmp_path / "clone"


def test_a_file_of_git_is_none_of_the_repository(template: Path) -> None:
    with pytest.raises(SetupError, match=r"'.git/config' is git's"):
        Repositories().look_up(Checkout(template), ".git/config")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
@pytest.mark.parametrize("whose", [".git", "."])
def test_a_clone_of_another_user_around_the_job_does_not_count(
    tmp_path: Path, template: Path, whose: str
) -> None:
    """Anybody can make a /tmp/.git, with a remote of the name that the job has."""
    shutil.copytree(template, tmp_path / "tmp", symlinks=True)
    (tmp_path / "tmp" / "job").mkdir()
    assert clone_around(tmp_path / "tmp" / "job") == tmp_path / "tmp"
    os.chown(tmp_path / "tmp" / whose, 12345, 12345)
    assert clone_around(tmp_path / "tmp" / "job") != tmp_path / "tmp"
    # His own job in his own clone is another matter.
    for path in (tmp_path / "tmp", tmp_path / "tmp" / ".git", tmp_path / "tmp" / "job"):
        os.chown(path, 12345, 12345)
    assert clone_around(tmp_path / "tmp" / "job") == tmp_path / "tmp"


def test_nothing_is_copied_through_a_link_of_the_repository(tmp_path: Path, box: Path) -> None:
    """`git-repos` goes to a folder beside the definition; a link there would lead to anywhere."""
    (tmp_path / "outside").mkdir()
    for name in ("tests", "lib"):
        make_clone(tmp_path / name)
    (tmp_path / "tests" / "lib").symlink_to(tmp_path / "outside")
    (tmp_path / "tests" / "def.yaml").write_text("install: {git-repos: [../lib]}\nrun: {steps: [true]}\n")
    with Lavabox(
        "sim", "--box", str(box), "--repo", "../lib=lib", "--role", "a=tests/def.yaml", cwd=tmp_path
    ) as process:
        assert process.finish() == 1
        assert "can't put" in process.text
        assert "which is in the repository already" in process.text.replace("\n", " ")
    assert list((tmp_path / "outside").iterdir()) == []
