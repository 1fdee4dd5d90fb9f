# SPDX-License-Identifier: MIT
"""What the commands that report results take from their command lines, checked before anything is sent."""

from .arguments import parse_number, quote, to_bytes
from .wire.vocabulary import MAX_NAME, MAX_TEXT, RESULTS, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def parse_name(argument: str, what: str) -> bytes:
    """An id or a name, which may be any text; `what` it is appears in messages. Raises UsageError."""
    return _checked(argument, what, MAX_NAME)


def parse_text(argument: str, what: str) -> bytes:
    """A message or a URL."""
    return _checked(argument, what, MAX_TEXT)


def _checked(argument: str, what: str, limit: int) -> bytes:
    data = to_bytes(argument)
    if not data:
        raise UsageError("the %s is empty" % what)
    if len(data) > limit:
        raise UsageError("the %s has %d bytes; at most %d are allowed" % (what, len(data), limit))
    return data


def required(options: "Mapping[str, str]", name: str) -> str:
    if name not in options:
        raise UsageError("%s is missing" % name)
    return options[name]


def parse_result(text: str) -> str:
    """One of RESULTS. In capital letters too, as LAVA's dispatcher takes them."""
    result = text.lower() if text.isupper() else text
    if result not in RESULTS:
        raise UsageError("--result must be one of %s, not %s" % (", ".join(RESULTS), quote(text)))
    return result


def parse_measurement(text: str) -> str:
    """A finite decimal number, in the digits given."""
    digits = text.strip()
    if len(digits) > MAX_NAME or parse_number(digits) is None:
        raise UsageError("--measurement must be a decimal number, not %s" % quote(text))
    return digits
