# SPDX-License-Identifier: MIT
"""lava-send: send a message to the group.

Sending never waits for the receivers: the dispatcher keeps the message for the
life of the group.
"""

from toolkit.arguments import is_word, parse_message_id, quote, to_bytes
from toolkit.wire.vocabulary import MAX_DATA, OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-send [--] MESSAGE-ID [KEY=VALUE ...]

Send a message to the group, with data if there is any, and return when the
dispatcher has it. Every device can wait for it, now or later, with lava-wait,
lava-wait-all or lava-sync, and finds the data in its cache file.

MESSAGE-ID and KEY have no white space, control characters or '='.
VALUE is any text without line breaks; it may be empty.
All keys and values together have at most 65536 bytes.
An argument without a key and '=' is left out, with a warning.
Sent again by the same device with the same id, a message that repeats a key takes the
place of the earlier message; one that has only new keys is added to it.

Options, before MESSAGE-ID:
  --  MESSAGE-ID follows, even if it begins with '-'
  -h, --help, --version

Exit status:
  0    the dispatcher has the message
  2    usage; nothing has been sent
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-send server-ready address=192.168.1.5 port=5201
"""


def run(arguments: "list[str]", context: "Context") -> int:
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    elif arguments and arguments[0].startswith("-"):
        raise UsageError("unknown option %s" % quote(arguments[0]))
    if not arguments:
        raise UsageError("a message id is missing")
    message_id = parse_message_id(arguments[0])
    data: "list[bytes]" = []
    for argument in arguments[1:]:
        key, equals, value = to_bytes(argument).partition(b"=")
        if key and equals:
            data += [_checked_key(key), _checked_value(key, value)]
        else:
            context.warn("ignored, because it is not KEY=VALUE: %s" % quote(argument))
    _check_size(data)
    context.request("send", message_id, data)
    return OK


def _checked_key(key: bytes) -> bytes:
    if not is_word(key):
        raise UsageError("the key %s has white space or a control character in it" % quote(key))
    return key


def _checked_value(key: bytes, value: bytes) -> bytes:
    if b"\n" in value or b"\r" in value:
        raise UsageError("the value of %s has a line break in it" % quote(key))
    return value


def _check_size(data: "list[bytes]") -> None:
    size = sum(map(len, data))
    if size > MAX_DATA:
        raise UsageError(
            "the keys and values have %d bytes, and a message can carry %d: "
            "send less, or send several messages with different ids" % (size, MAX_DATA)
        )
