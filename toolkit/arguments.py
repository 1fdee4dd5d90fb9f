# SPDX-License-Identifier: MIT
"""What the commands have in common on their command lines: options, message ids, time-outs."""

import sys

from .wire.vocabulary import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Bytes of a message id. The dispatcher refuses a longer one.
MAX_ID = 1024

# Seconds: 31 years. What is meant to be longer is a slip.
MAX_TIMEOUT = 1e9

TIMEOUT_VARIABLE = "LAVA_WAIT_TIMEOUT"

# White space and control characters, which neither ids nor keys have.
_FORBIDDEN = bytes(range(0x21)) + b"\x7f"


def to_bytes(argument: str) -> bytes:
    """The bytes of an argument, as it was given. (os.fsencode; `os` takes longer to start than all of this.)"""
    return argument.encode(sys.getfilesystemencoding(), "surrogateescape")


def to_text(argument: str) -> str:
    """`argument` as UTF-8, whatever the locale; raises UsageError where it is none."""
    try:
        return to_bytes(argument).decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("%s is no UTF-8 text" % quote(argument)) from None


def quote(argument: "str | bytes") -> str:
    """An argument as a message shows it: printable, and cut where it is long."""
    data = argument if isinstance(argument, bytes) else to_bytes(argument)
    text = repr(data.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 60 else text[:50] + "...'"


def is_word(data: bytes) -> bool:
    """Whether `data` is neither empty nor has white space or control characters in it."""
    return bool(data) and data.translate(None, _FORBIDDEN) == data


def parse(
    arguments: "list[str]", minimum: int, maximum: int, options: "tuple[str, ...]" = ()
) -> "tuple[list[str], dict[str, str]]":
    """The operands, from `minimum` to `maximum` of them, and the values of the `options` given.

    Options, as `--name VALUE` or `--name=VALUE`, may stand anywhere before a `--`.
    Raises UsageError for all else.
    """
    operands = []  # type: list[str]
    values = {}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            operands.extend(rest)
        elif argument.startswith("-") and argument != "-":
            name, equals, value = argument.partition("=")
            if name not in options:
                raise UsageError("unknown option %s" % quote(name))
            try:
                values[name] = value if equals else next(rest)
            except StopIteration:
                raise UsageError("%s needs a value" % name) from None
        else:
            operands.append(argument)
    if len(operands) < minimum:
        raise UsageError("an argument is missing")
    if len(operands) > maximum:
        raise UsageError("%s is an argument too many" % quote(operands[maximum]))
    return operands, values


def parse_message_id(argument: str) -> bytes:
    """The message id; raises UsageError where it is none."""
    data = to_bytes(argument)
    if not data:
        raise UsageError("the message id is empty")
    if not is_word(data) or b"=" in data:
        raise UsageError(
            "%s is no message id: it has white space, a control character or '=' in it" % quote(argument)
        )
    if len(data) > MAX_ID:
        raise UsageError("the message id has %d bytes; it may have %d" % (len(data), MAX_ID))
    return data


def parse_timeout(options: "Mapping[str, str]", environ: "Mapping[str, str]") -> "int | None":
    """Milliseconds to wait, of --timeout or else of LAVA_WAIT_TIMEOUT; None: for ever. Raises UsageError."""
    if "--timeout" in options:
        name, text = "--timeout", options["--timeout"]
    elif environ.get(TIMEOUT_VARIABLE):
        name, text = TIMEOUT_VARIABLE, environ[TIMEOUT_VARIABLE]
    else:
        return None
    seconds = parse_number(text)
    if seconds is None or not 0 < seconds <= MAX_TIMEOUT:
        raise UsageError(
            "%s is %s, and not a number of seconds greater than 0 and at most %d"
            % (name, quote(text), MAX_TIMEOUT)
        )
    return max(1, round(seconds * 1000))


def parse_number(text: str) -> "float | None":
    """The decimal number in `text`, or None. float() alone would also take "nan", " 1 " and "1_0"."""
    if text.strip("0123456789.eE+-"):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) != float("inf") else None
