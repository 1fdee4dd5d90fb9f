# SPDX-License-Identifier: MIT
"""What keeps a run from beginning. The texts say what is wrong and what to do; nobody needs a traceback."""


class UsageError(Exception):
    """The user's mistake in the arguments."""


class SetupError(Exception):
    """Something that the run needs can't be had."""


class InputError(SetupError):
    """A file that the user named, such as a job, can't be used as it is."""


def on_one_line(sentence: str) -> str:
    """The sentence as it can be shown on a terminal: other characters than printable ones as Python writes them.

    Errors name files, URLs and what others wrote, who would have a line or an escape sequence of theirs shown.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
