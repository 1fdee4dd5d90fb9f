# SPDX-License-Identifier: MIT
"""Other programs: starting them as a shell would, waiting for them, reading their output.

os.fork and os.exec, since the subprocess module takes longer to import than most commands run.
"""

import _signal
import _thread
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SHELL = "/bin/sh"

# Seconds that a program has to clean up after Ctrl-C, and after SIGTERM.
GRACE = 2.0
_POLL = 0.02

_LOCALE = "LC_CTYPE"

# What tells this process to end.
_ENDINGS = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)

# What shells report for a program that is not there, and for one that cannot be run.
_NOT_FOUND, _NOT_RUN = 127, 126
NOT_STARTED = (_NOT_FOUND, _NOT_RUN)


def command_line(arguments: "list[str]") -> "list[str]":
    """How to run one argument: as shell code; and several: exactly as they are quoted, builtins included."""
    if len(arguments) == 1:
        return [SHELL, "-c", arguments[0]]
    return [SHELL, "-c", '"$@"', "sh"] + arguments


def environment(environ: "Mapping[str, str]", **more: str) -> "dict[str, str]":
    """The environment for a program: ours, and more."""
    found = dict(environ)
    # Of the locale "C", and where none is set, Python makes another one, and tells all that it starts (PEP 538).
    if _LOCALE in found:
        found.pop(_LOCALE)
        found.update(_given(_LOCALE, environ))
    found.update(more)
    return found


def _given(name: str, environ: "Mapping[str, str]") -> "dict[str, str]":
    """The variable as this process was started with it, if it was."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [os.fsdecode(entry).partition("=") for entry in file.read().split(b"\0")]
    except OSError:
        return {name: environ[name]}
    return {key: value for key, _, value in pairs if key == name}


def find(program: str, environ: "Mapping[str, str]") -> "str | None":
    """The path of a program in PATH."""
    for folder in environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(folder or ".", program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def start(
    argv: "list[str]",
    environ: "Mapping[str, str]",
    output: "int | None" = None,
    folder: "str | None" = None,
    with_input: bool = True,
    mask: "Collection[int] | None" = None,
) -> int:
    """Start a program; returns its process id.

    :param output: a descriptor for its stdout.
    :param with_input: whether it may read what this process could.
    :param mask: the signals that it is to block, instead of those that this process does.
    """
    if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:
        # Inherited so. The kernel would drop the exit status, and not tell of the end: `_wait` needs both.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    pid = os.fork()
    if pid:
        return pid
    try:
        if mask is not None:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        if output is not None:
            os.dup2(output, 1)
        if not with_input:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if folder is not None:
            os.chdir(folder)
        become(argv, environ)
    except OSError as error:
        _complain(argv[0], error)
    finally:
        os._exit(_NOT_RUN)


def become(argv: "list[str]", environ: "Mapping[str, str]") -> None:
    """Go on as another program; says so on stderr and ends, as a shell does, where that cannot be."""
    # Python ignores them, and what is ignored stays so: `yes | head -n 1` would complain.
    for name in ("SIGPIPE", "SIGXFSZ"):
        _signal.signal(getattr(_signal, name), _signal.SIG_DFL)
    status = _NOT_RUN
    try:
        os.execvpe(argv[0], argv, environ)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            status = _NOT_FOUND
        sentence = why_not_started(argv[0])
        if sentence:
            os.write(2, sentence.encode("utf-8", "surrogateescape") + b"\n")
        else:
            _complain(argv[0], error)
    finally:
        os._exit(status)


def _complain(program: str, error: OSError) -> None:
    os.write(2, ("%s: %s\n" % (program, error.strerror)).encode("utf-8", "surrogateescape"))


def why_not_started(path: str) -> str:
    """What is wrong with the first line of a script, which its shell or the kernel does not name; or ""."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            line = os.read(descriptor, 256).partition(b"\n")[0]
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    if not line.startswith(b"#!"):
        return ""
    if line.endswith(b"\r"):
        return "%s: its lines end with CR LF, so its interpreter would be %s: remove the CRs" % (
            path,
            repr(line[2:].strip(b" ").decode("utf-8", "replace")),
        )
    interpreter = os.fsdecode(line[2:].split()[0]) if line[2:].split() else ""
    return "" if os.path.exists(interpreter) else "%s: there is no interpreter %s" % (path, interpreter)


def run(argv: "list[str]", environ: "Mapping[str, str]", folder: "str | None" = None) -> int:
    """Run a program to its end; returns its exit status as a shell has it: 128 and more for a signal.

    If this process is told to end (KeyboardInterrupt, SystemExit), the program is ended first.
    """
    return _run(argv, environ, folder=folder)


def run_tool(argv: "list[str]", environ: "Mapping[str, str]") -> int:
    """The same for a program that is not to read anything: our stdin is not its."""
    return _run(argv, environ, with_input=False)


def _run(
    argv: "list[str]",
    environ: "Mapping[str, str]",
    folder: "str | None" = None,
    with_input: bool = True,
) -> int:
    # Told to end between the start and the wait, it would leave the program behind.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _ENDINGS)
    try:
        pid = start(argv, environ, folder=folder, with_input=with_input, mask=mask)
    except OSError:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        raise
    return _wait(pid, mask)


def _wait(pid: int, mask: "Collection[int]") -> int:
    """Wait for the end of a child, and end it if this process is told to.

    The signals are blocked but for the moment in which one is dealt with: one that came just before `waitpid`
    would not wake it.

    :param mask: the signals that are blocked in that moment.
    """
    signals = _ENDINGS + (_signal.SIGCHLD,)
    try:
        while True:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, signals)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return _status(status)
            number = _signal.sigwait(signals)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
            if number != _signal.SIGCHLD:
                _signal.pthread_kill(_thread.get_ident(), number)
    except KeyboardInterrupt:
        # A terminal has told the program as well; it may be cleaning up.
        _end(pid, [0, _signal.SIGTERM])
        raise
    except SystemExit:
        _end(pid, [_signal.SIGTERM])
        raise
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)


def output_of(argv: "list[str]", environ: "Mapping[str, str]") -> "tuple[int, bytes]":
    """Exit status and stdout of a program."""
    read_end, write_end = os.pipe()
    pid = start(argv, environ, output=write_end, with_input=False)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        data = pipe.read()
    return _wait(pid, _signal.pthread_sigmask(_signal.SIG_BLOCK, ())), data


def _status(status: int) -> int:
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _end(pid: int, signals: "list[int]") -> None:
    """Wait for the end of a child, with each of the signals for GRACE seconds, and then with SIGKILL."""
    try:
        for number in signals:
            os.kill(pid, number)
            deadline = time.monotonic() + GRACE
            while time.monotonic() < deadline:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return
                time.sleep(_POLL)
        os.kill(pid, _signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ChildProcessError, ProcessLookupError):
        pass  # it had just ended
