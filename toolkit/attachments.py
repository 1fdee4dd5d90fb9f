# SPDX-License-Identifier: MIT
"""Files that old test definitions attach to their results: kept where LAVA kept them."""

import os

from .sharedfiles import open_folder, open_named
from .wire.vocabulary import NO, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

# What LAVA took of one file, in bytes.
MAX_SIZE = 25 * 1024 * 1024


def attach(path: str, mime_type: "str | None", folder: "list[str]", context: "Context") -> None:
    """Copy a file to `folder`, the path below LAVA_RESULT_DIR, and say that it stays there."""
    results = context.environ.get("LAVA_RESULT_DIR")
    if not results:
        raise CommandError(
            NO, "gone since LAVA 2018.2, and LAVA_RESULT_DIR names no directory to keep the file in"
        )
    name = os.path.basename(path)
    try:
        with open(open_named(path), "rb") as file:
            content = file.read(MAX_SIZE + 1)
        if len(content) > MAX_SIZE:
            raise CommandError(NO, "%s has more than %d bytes" % (path, MAX_SIZE))
        with open_folder(results, folder + ["attachments"], make=True) as target:
            target.replace(name, content)
            if mime_type is not None:
                target.replace(name + ".mimetype", os.fsencode(mime_type) + b"\n")
    except OSError as error:
        raise CommandError(NO, "cannot attach %s: %s" % (path, error.strerror)) from None
    context.warn(
        "attachments are not collected since LAVA 2018.2: the file is in %s on this device; "
        "what the lab should have goes through `lava-test-case ID --result RESULT --output FILE`"
        % target.path
    )
