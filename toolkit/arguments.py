# SPDX-License-Identifier: MIT
"""What the commands have in common on their command lines: options, message ids, time-outs."""

import sys

from .wire.vocabulary import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .context import Context

# Bytes of a message id. The dispatcher refuses a longer one.
MAX_ID = 1024
# Ids of one lava-wait --any, which has one of several.
MAX_IDS = 64
# What --count may say.
MAX_COUNT = 10000

# Seconds: 31 years. What is meant to be longer is a slip.
MAX_TIMEOUT = 1e9

TIMEOUT_VARIABLE = "LAVA_WAIT_TIMEOUT"

# What a duration may end with, in seconds.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

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
        raise UsageError("%s is not UTF-8 text" % quote(argument)) from None


def quote(argument: "str | bytes") -> str:
    """An argument as a message shows it: printable, and cut where it is long."""
    data = argument if isinstance(argument, bytes) else to_bytes(argument)
    text = repr(data.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 60 else text[:50] + "...'"


def is_word(data: bytes) -> bool:
    """Whether `data` is neither empty nor has white space or control characters in it."""
    return bool(data) and data.translate(None, _FORBIDDEN) == data


def parse(
    arguments: "list[str]",
    minimum: int,
    maximum: int,
    options: "tuple[str, ...]" = (),
    context: "Context | None" = None,
    flags: "tuple[str, ...]" = (),
    repeated: "tuple[str, ...]" = (),
) -> "tuple[list[str], dict[str, str]]":
    """The operands, from `minimum` to `maximum` of them, and the values of the `options` given.

    Options, as `--name VALUE` or `--name=VALUE`, may stand anywhere before a `--`. `flags` have no value, and ""
    in the result; the values of `repeated` ones, which may be given several times, have NUL between them.
    Raises UsageError for all else. More operands are ignored with a warning if there is a
    `context` to warn with: of the commands whose LAVA counterparts ignore them.
    """
    operands = []  # type: list[str]
    values = {}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            operands.extend(rest)
        elif argument.startswith("-") and argument != "-":
            name, equals, value = argument.partition("=")
            if name in flags and not equals:
                values[name] = ""
                continue
            if name not in options + repeated:
                raise UsageError("unknown option %s" % quote(name))
            try:
                value = value if equals else next(rest)
            except StopIteration:
                raise UsageError("%s needs a value" % name) from None
            values[name] = values[name] + "\0" + value if name in repeated and name in values else value
        else:
            operands.append(argument)
    if len(operands) < minimum:
        raise UsageError("an argument is missing")
    if len(operands) > maximum:
        if context is None:
            raise UsageError("too many arguments: %s" % _quoted(operands[maximum:]))
        _ignore(operands[maximum:], context)
    return operands[:maximum], values


def parse_words(arguments: "list[str]", maximum: int, context: "Context") -> "list[str]":
    """The first words, up to `maximum`; the others are ignored with a warning, as LAVA's scripts ignore them.

    For commands without options: a word may begin with '-'. Empty words at the end are left out.
    """
    words = arguments[1:] if arguments[:1] == ["--"] else arguments
    while words and not words[-1]:
        words = words[:-1]
    if len(words) > maximum:
        _ignore(words[maximum:], context)
    return words[:maximum]


def _ignore(words: "list[str]", context: "Context") -> None:
    context.warn("ignored: %s" % _quoted(words))


def _quoted(words: "list[str]") -> str:
    return ", ".join([quote(word) for word in words])


def parse_message_id(argument: str, what: str = "message id") -> bytes:
    """The message id, or the name of a lock: `what`; raises UsageError where it is none."""
    data = to_bytes(argument)
    if not data:
        raise UsageError("the %s is empty" % what)
    if not is_word(data) or b"=" in data:
        raise UsageError(
            "%s cannot be a %s: it has white space, a control character or '=' in it"
            % (quote(argument), what)
        )
    if len(data) > MAX_ID:
        raise UsageError("the %s has %d bytes; at most %d are allowed" % (what, len(data), MAX_ID))
    return data


def parse_count(text: str) -> int:
    """How many devices; raises UsageError."""
    if not text or text.strip("0123456789") or not 0 < int(text[:10]) <= MAX_COUNT:
        raise UsageError("--count must be a whole number from 1 to %d, not %s" % (MAX_COUNT, quote(text)))
    return int(text)


def parse_timeout(options: "Mapping[str, str]", environ: "Mapping[str, str]") -> "tuple[int | None, bool]":
    """What a wait tells the dispatcher of time: milliseconds, None: for ever; and whether it is of --timeout.

    Only a script that gives --timeout has a plan for a wait that ends without what it waits for;
    LAVA_WAIT_TIMEOUT is of whoever runs the script. Raises UsageError.
    """
    given = "--timeout" in options
    if given:
        name, text = "--timeout", options["--timeout"]
    elif environ.get(TIMEOUT_VARIABLE):
        name, text = TIMEOUT_VARIABLE, environ[TIMEOUT_VARIABLE]
    else:
        return None, False
    unit = _UNITS.get(text[-1:], 0)
    number = parse_number(text[:-1] if unit else text)
    seconds = None if number is None else number * (unit or 1)
    if seconds is None or not 0 < seconds <= MAX_TIMEOUT:
        raise UsageError(
            "%s must be seconds, or a number and s, m, h or d, as in 90 or 1.5m; more than 0, at most %d s; not %s"
            % (name, MAX_TIMEOUT, quote(text))
        )
    return max(1, round(seconds * 1000)), given


def parse_number(text: str) -> "float | None":
    """The decimal number in `text`, or None. float() alone would also take "nan", " 1 " and "1_0"."""
    if text.strip("0123456789.eE+-"):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) != float("inf") else None
