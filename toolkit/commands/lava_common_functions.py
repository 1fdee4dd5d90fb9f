# SPDX-License-Identifier: MIT
"""lava-common-functions: shell functions for test scripts, which source it.

A shell reads what it sources as its own program, so this cannot be the box:
where commands are installed, the text below is written to a file.
"""

from toolkit.arguments import parse_words
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: . lava-common-functions
       eval "$(lavabox lava-common-functions)"

Define shell functions for test scripts; run as a command, print their text.

signal TEXT   print one of LAVA's text signals, with or without its angle brackets; to
              the kernel's log if the variable KMSG has a value. Kernel messages can
              damage it: lava-test-case and the like are safe from them.

Options:
  -h, --help, --version

Exit status:
  0    done
  2    usage

Example:
  . lava-common-functions
  signal "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=disk RESULT=pass>"
"""

# The first two lines tell --install that the file is its own.
TEXT = """\
#!/bin/sh
# lavabox: shell functions for test scripts, to be sourced: . lava-common-functions

# Print one of LAVA's text signals, with or without its angle brackets.
signal() {
    case $1 in
        "<"*) set -- "$*" ;;
        *) set -- "<$*>" ;;
    esac
    if [ -n "${CHARACTER_DELAY:-}" ]; then
        sleep "$CHARACTER_DELAY"
    fi
    if [ -n "${KMSG:-}" ]; then
        printf '<0>%s\\n' "$1" >/dev/kmsg
    else
        printf '%s\\n' "$1"
    fi
}
"""


def run(arguments: "list[str]", context: "Context") -> int:
    parse_words(arguments, 0, context)
    context.write(TEXT)
    return OK
