# SPDX-License-Identifier: MIT
"""lava-test-case: run a test and record its result, or record a result that is known."""

from toolkit.arguments import parse, quote
from toolkit.reports import parse_measurement, parse_name, parse_result, required
from toolkit.wire.vocabulary import OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-case [--] ID --shell COMMAND [ARGUMENT ...]
       lava-test-case [--] ID --result RESULT [--measurement NUMBER] [--units UNITS]
                      [--output FILE]

Record the result of the test case ID, which may be any text, and return when the
dispatcher has it.

With --shell, run a test: it passes if its exit status is 0, and fails otherwise, also
if a signal has ended it. COMMAND alone is shell code for /bin/sh: with pipes, with
`cd` and `exit 3`. With arguments, everything is run exactly as it is quoted. The test
finds ID in the variable TEST_CASE_ID. If no dispatcher answers, it is not run.

Options:
  --shell COMMAND ...   the rest of the line is the test
  --result RESULT       pass, fail, skip or unknown
  --measurement NUMBER  what was measured: a decimal number, as in 12, -0.5 or 1.5e9
  --units UNITS         the unit of NUMBER, any text
  --output FILE         print FILE, as the output of the test, if it can be read
  --                    ID follows, even if it begins with '--'
  -h, --help, --version

Exit status:
  0    the dispatcher has the result, pass or fail
  2    usage; nothing has been run or recorded, and the dispatcher is told of it
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted; the test has been ended, and has no result

Examples:
  lava-test-case disk --shell 'dmesg | grep -q sda'
  lava-test-case throughput --result pass --measurement 940 --units Mbit/s
"""

_OPTIONS = ("--result", "--measurement", "--units", "--output")


def run(arguments: "list[str]", context: "Context") -> int:
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    elif arguments and arguments[0] in _OPTIONS + ("--shell",):
        raise UsageError("the id of the test case comes first, and %s after it" % quote(arguments[0]))
    if not arguments:
        raise UsageError("the id of the test case is missing")
    test_case = parse_name(arguments[0], "id")
    if arguments[1:2] == ["--shell"]:
        _run_test(test_case, arguments[0], arguments[2:], context)
    else:
        _record(test_case, arguments[1:], context)
    return OK


def _run_test(test_case: bytes, name: str, command: "list[str]", context: "Context") -> None:
    context.need_device()
    from toolkit.processes import NOT_STARTED, command_line, environment, run, why_not_started

    if not command or command == [""]:
        raise UsageError("--shell needs a command")
    context.request("case-start", test_case)
    status = run(command_line(command), environment(context.environ, TEST_CASE_ID=name))
    sentence = why_not_started(command[0].split(" ")[0]) if status in NOT_STARTED else ""
    if sentence:
        context.warn(sentence)
    context.request("case-end", test_case)
    context.request("result", test_case, "fail" if status else "pass", None, None)


def _record(test_case: bytes, arguments: "list[str]", context: "Context") -> None:
    if "--shell" in arguments:
        raise UsageError("--shell comes right after the id, and without other options")
    _, options = parse(arguments, 0, 0, _OPTIONS)
    result = parse_result(required(options, "--result"))
    measurement = parse_measurement(options["--measurement"]) if "--measurement" in options else None
    units = parse_name(options["--units"], "unit") if options.get("--units") else None
    if "--output" in options:
        context.need_device()
        from toolkit.sharedfiles import PIPES, open_named

        try:
            descriptor = open_named(options["--output"], PIPES)
        except OSError as error:
            # As with LAVA's script, the result counts.
            context.warn(
                "recorded without output: cannot read %s: %s" % (options["--output"], error.strerror)
            )
        else:
            _show(test_case, descriptor, context)
    context.request("result", test_case, result, measurement, units)


def _show(test_case: bytes, descriptor: int, context: "Context") -> None:
    """Print the file, between the marks that say whose output it is."""
    with open(descriptor, "rb", buffering=0) as file:
        context.request("case-start", test_case)
        chunk = file.read(65536)
        while chunk:
            context.write(chunk)
            chunk = file.read(65536)
    context.request("case-end", test_case)
