# SPDX-License-Identifier: MIT
"""What keeps a run from beginning. The texts say what is wrong and what to do; nobody needs a traceback."""


class UsageError(Exception):
    """The user's mistake in the arguments."""


class SetupError(Exception):
    """Something that the run needs can't be had."""


class InputError(SetupError):
    """A file that the user named, such as a job, can't be used as it is."""
