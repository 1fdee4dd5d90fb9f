# SPDX-License-Identifier: MIT
"""lava-test-runner: install and run the test definitions of a directory."""

import os
import time

from toolkit.arguments import parse_words
from toolkit.processes import SHELL, environment
from toolkit.processes import run as run_program
from toolkit.sharedfiles import Folder, open_folder
from toolkit.testshell import run_in, write_number
from toolkit.wire.vocabulary import NO, OK, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-runner [DIRECTORY]

Run the test definitions that DIRECTORY/lava-test-runner.conf names, one directory a
line: first install.sh of each one that has it, then run.sh of each. The dispatcher is
told when each run begins and ends. A run.sh that is executable and begins with `#!` is
started as it is, any other with `/bin/sh -e`.

DIRECTORY is /lava if it is not given. What it reads there has to belong to this user or
to root, and nobody else may be able to write to it.

The list is renamed when it has been read, so that nothing is run again after a reboot.
Results go to DIRECTORY/results/NAME-TIME, which a run finds in LAVA_RESULT_DIR: the
files install_return_code and return_code, and what lava-background-process-start
leaves there. DIRECTORY/../bin goes in front of PATH, if it belongs to this user or to
root and nobody else can write to it.

At the end, and if an installation fails, it prints the line that LAVA's dispatcher
waits for.

Options:
  -h, --help, --version

Exit status:
  0    all has been installed and run, and each run.sh has ended with status 0
  1    there is no list, an installation has failed, or a run.sh has ended otherwise
  2    usage
  69   no dispatcher answers on this console; nothing has been run
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-test-runner /lava-1234/0
"""

# What LAVA's script takes without an argument.
DEFAULT = "/lava"

LIST = "lava-test-runner.conf"

# What LAVA's own dispatcher knows the end by.
EXIT = "<LAVA_TEST_RUNNER EXIT>\n"
INSTALL_FAILED = "<LAVA_TEST_RUNNER INSTALL_FAIL>\n"

# In a run.sh: its text signals are to go through the kernel's log.
_USE_KMSG = b"# USE_KMSG"


class _Definition:
    """A test definition: its directory, and the directory for its results."""

    __slots__ = ("directory", "name", "results")

    def __init__(self, directory: str, results: Folder) -> None:
        self.directory = directory
        self.name = os.path.basename(directory)
        self.results = results

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def read(self, name: str) -> "bytes | None":
        """One of its files, None if it has none. Raises CommandError for what others can change."""
        try:
            with Folder(self.directory, private=True) as folder:
                return folder.read(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CommandError(NO, "cannot read %s: %s" % (self.path(name), error.strerror)) from None


def run(arguments: "list[str]", context: "Context") -> int:
    words = parse_words(arguments, 1, context)
    directory = os.path.abspath(words[0] if words else DEFAULT)
    try:
        return _run_all(directory, context)
    finally:
        context.write(EXIT)


def _run_all(directory: str, context: "Context") -> int:
    path = os.path.join(directory, LIST)
    try:
        with Folder(directory, private=True) as folder:
            names = [line.strip() for line in os.fsdecode(folder.read(LIST)).split("\n") if line.strip()]
            # Before anything is changed: whether there is a dispatcher.
            context.request("self")
            stamp = "%d" % time.time()
            definitions = [_prepared(os.path.join(directory, name), directory, stamp) for name in names]
            os.rename(path, "%s-%s" % (path, stamp))
    except OSError as error:
        raise CommandError(NO, "cannot begin with %s: %s" % (path, error.strerror)) from None
    environ = _environment(directory, context)
    for definition in definitions:
        _install(definition, environ, context)
    statuses = [_run(definition, environ, context) for definition in definitions]
    return NO if any(statuses) else OK


def _prepared(directory: str, parent: str, stamp: str) -> _Definition:
    directory = os.path.normpath(directory)
    results = ["results", "%s-%s" % (os.path.basename(directory), stamp)]
    return _Definition(directory, open_folder(parent, results, make=True))


def _environment(directory: str, context: "Context") -> "dict[str, str]":
    environ = environment(context.environ)
    commands = os.path.join(os.path.dirname(directory), "bin")
    try:
        # Beside a DIRECTORY in /tmp, anybody can have made it.
        Folder(commands, private=True).close()
        environ["PATH"] = commands + ":" + environ.get("PATH", os.defpath)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        context.warn("%s is not put in front of PATH: %s" % (commands, error.strerror))
    return environ


def _install(definition: _Definition, environ: "dict[str, str]", context: "Context") -> None:
    if definition.read("install.sh") is None:
        return
    status = run_program([SHELL, definition.path("install.sh")], environ, definition.directory)
    write_number(definition.results, "install_return_code", status)
    if status:
        text = "%s: install.sh ended with status %d" % (definition.name, status)
        context.write(INSTALL_FAILED)
        context.request("raise", os.fsencode(text))
        raise CommandError(NO, text)


def _run(definition: _Definition, environ: "dict[str, str]", context: "Context") -> int:
    """The exit status of run.sh."""
    script = definition.path("run.sh")
    argv = [SHELL, "-e", script]
    text = definition.read("run.sh")
    if text is None:
        raise CommandError(NO, "there is no %s" % script)
    if b"\r\n" in text:
        context.warn("%s: the lines of run.sh end with CR LF: remove the CRs" % definition.name)
    if text.startswith(b"#!") and os.access(script, os.X_OK):
        argv = [script]
    if _USE_KMSG in text:
        environ = dict(environ, KMSG="true")
    # Of this run, where the definition has one; LAVA's dispatcher makes it.
    identity = [os.fsencode(definition.name), (definition.read("uuid") or b"").strip()]
    context.request("run-start", *identity)
    status = run_in(definition.results, argv, environ, definition.directory)
    context.request("run-end", *(identity + [status]))
    if status:
        context.warn("%s: run.sh ended with status %d" % (definition.name, status))
    return status
