# SPDX-License-Identifier: MIT
"""Repositories that would have git run a program, or read what is not theirs, or never come to an end."""

import hashlib
import os
import subprocess
import zlib
from pathlib import Path

DEFINITION = "metadata: {format: Lava-Test Test Definition 1.0, name: x}\nrun: {steps: ['echo %s']}\n"

# Settings that make git run a program, {program} stands for one. They come out of git-config(1).
SETTINGS = {
    "fsmonitor": "[core]\n fsmonitor = {program}",
    "hooks": "[core]\n hooksPath = {hooks}",
    "pager": "[core]\n pager = {program}\n[pager]\n ls-tree = {program}\n ls-files = {program}\n cat-file = {program}",
    "editors": "[core]\n editor = {program}\n[sequence]\n editor = {program}",
    "ssh": "[core]\n sshCommand = {program}\n gitProxy = {program}\n askPass = {program}",
    "alternate refs": "[core]\n alternateRefsCommand = {program}",
    "credentials": "[credential]\n helper = !{program}",
    "diff": '[diff]\n external = {program}\n[diff "x"]\n command = {program}\n textconv = {program}',
    "smudge and clean": '[filter "x"]\n smudge = {program}\n clean = {program}\n required = true',
    "filter process": '[filter "x"]\n process = {program}\n required = true',
    "merge": '[merge "x"]\n driver = {program}',
    "gpg": "[gpg]\n program = {program}\n[log]\n showSignature = true",
    "archive": '[tar "tar"]\n command = {program}\n[tar "x"]\n command = {program}\n remote = true',
    "aliases": "[alias]\n ls-tree = !{program}\n rev-parse = !{program}\n ls-files = !{program}",
    "promisor": '[extensions]\n partialClone = origin\n[remote "origin"]\n url = {elsewhere}\n promisor = true\n'
    " partialclonefilter = blob:none\n uploadpack = {program}",
    "promisor over ext": '[protocol "ext"]\n allow = always\n[remote "origin"]\n url = "ext::sh -c {program}"\n'
    " promisor = true\n[extensions]\n partialClone = origin",
    "remote helper": '[remote "origin"]\n url = x\n vcs = ../../x\n promisor = true\n[url "ext::{program}"]\n insteadOf = x\n'
    "[protocol]\n allow = always",
    "upload pack": "[uploadpack]\n packObjectsHook = {program}",
    "submodule": '[submodule "lib"]\n update = !{program}\n active = true\n url = {elsewhere}\n[submodule]\n recurse = true',
    "include": "[include]\n path = {included}",
    "include if": '[includeIf "gitdir:/**"]\n path = {included}',
    "configuration of the work tree": "[extensions]\n worktreeConfig = true",
    "trailer": '[trailer "x"]\n command = {program}\n cmd = {program}',
    "interactive": "[interactive]\n diffFilter = {program}",
    "templates": "[init]\n templateDir = {hooks}",
    "maintenance": "[gc]\n auto = 1\n recentObjectsHook = {program}\n[maintenance]\n auto = true",
    "trace": "[trace2]\n normalTarget = {canary}\n eventTarget = {canary}\n perfTarget = {canary}",
}
HOOKS = ("post-checkout", "post-index-change", "pre-auto-gc", "reference-transaction", "fsmonitor-watchman")


def git(folder: Path, *arguments: str, **environment: str) -> str:
    """Run git, with a configuration that is nobody's."""
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", **environment},
    )
    return done.stdout.strip()


def make_clone(folder: Path, *options: str) -> Path:
    """A clone with the branches main, which is checked out, and stable; `def.yaml` says which it is of."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", *options)
    (folder / ".gitattributes").write_text("* filter=x diff=x merge=x\n")
    (folder / ".gitignore").write_text("*.img\n")
    for branch in ("stable", "main"):
        (folder / "def.yaml").write_text(DEFINITION % branch)
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", branch)
        if branch == "stable":
            git(folder, "branch", "stable")
    return folder


def store(git_folder: Path, kind: str, data: bytes) -> str:
    """Put an object into a repository that git itself would not make; returns its name."""
    raw = b"%s %d\0%s" % (kind.encode(), len(data), data)
    name = hashlib.sha1(raw).hexdigest()
    path = git_folder / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(raw, 1))
    return name


def commit_of(clone: Path, *entries: tuple[str, str, str]) -> str:
    """Have the branch stable lead to files and folders of (mode, name, object); returns the commit."""
    tree = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(one) for mode, name, one in entries)
    author = "a <a@example.org> 1 +0000"
    text = f"tree {store(clone / '.git', 'tree', tree)}\nauthor {author}\ncommitter {author}\n\nx\n"
    commit = store(clone / ".git", "commit", text.encode())
    git(clone, "update-ref", "refs/heads/stable", commit)
    return commit


class Hostile:
    """Clones below a folder whose settings run a program that leaves a file behind."""

    def __init__(self, folder: Path) -> None:
        self.canary = folder / "canary"
        self._folder = folder
        program = folder / "program"
        program.write_text(f'#!/bin/sh\necho "$0 $*" >> {self.canary}\nexit 1\n')
        program.chmod(0o755)
        hooks = folder / "hooks"
        hooks.mkdir()
        for name in HOOKS:
            (hooks / name).symlink_to(program)
        (folder / "included").write_text(f"[core]\n fsmonitor = {program}\n")
        self._values = {
            "program": program,
            "hooks": hooks,
            "canary": self.canary,
            "included": folder / "included",
            "elsewhere": folder / "elsewhere",
        }

    def arm(self, git_folder: Path, *settings: str) -> None:
        """Add settings to the configuration of a repository, and hooks, attributes and an include beside it."""
        with (git_folder / "config").open("a") as file:
            for name in settings:
                file.write(SETTINGS[name].format_map(self._values) + "\n")
        (git_folder / "config.worktree").write_text(f"[core]\n fsmonitor = {self._values['program']}\n")
        (git_folder / "info" / "attributes").write_text("* filter=x diff=x export-subst\n")
        for name in HOOKS:
            hook = git_folder / "hooks" / name
            hook.unlink(missing_ok=True)
            hook.symlink_to(self._values["program"])

    def lose_a_blob(self, git_folder: Path, spec: str) -> None:
        """Take an object away, as in a partial clone."""
        name = git(git_folder, "--git-dir", str(git_folder), "rev-parse", spec)
        (git_folder / "objects" / name[:2] / name[2:]).unlink()

    def ran(self) -> str:
        """The calls of the program so far."""
        return self.canary.read_text() if self.canary.exists() else ""
