# SPDX-License-Identifier: MIT
"""The files of definitions, for who reads their scripts."""

import os
from pathlib import Path

from dispatcher.errors import SetupError
from dispatcher.jobs.model import Checkout, Definition
from dispatcher.jobs.repositories import Repositories
from dispatcher.plan.calls import ReadFile, ScriptFile

# Files of a folder that are looked into.
_MOST_BELOW = 300


class ScriptFiles:
    """Reads each file once, and none outside the folder of its definition.

    :param invoked_in: the names of files are told from there.
    """

    def __init__(self, invoked_in: Path, repositories: Repositories) -> None:
        self._invoked_in = invoked_in
        self._repositories = repositories
        self._files: dict[tuple[Checkout, str], ScriptFile | None] = {}

    def of(self, definition: Definition) -> ReadFile:
        """How to read the files of one definition."""
        return lambda path: self._read(definition, path)

    def _read(self, definition: Definition, path: str) -> ScriptFile | None:
        """`path` is normal, but for a / at its end."""
        for folder, repository in definition.repositories:
            if path.startswith(f"{folder}/"):
                return self._file(repository, path[len(folder) + 1 :])
        return None if definition.checkout is None else self._file(definition.checkout, path)

    def _file(self, checkout: Checkout, path: str) -> ScriptFile | None:
        key = (checkout, path)
        if key not in self._files:
            data = self._load(checkout, path)
            name = os.path.relpath(checkout.folder / path, self._invoked_in)
            if name.startswith("../"):
                name = str(checkout.folder / path)
            text = None if data is None else data.decode("utf-8", "surrogateescape")
            self._files[key] = None if text is None else ScriptFile(name, text)
        return self._files[key]

    def _below(self, checkout: Checkout, folder: str) -> bytes | None:
        """All texts with calls below a folder; None if it is none."""
        start = "" if folder == "./" else folder
        names = [name for name in self._repositories.list_files(checkout) if name.startswith(start)]
        texts = [self._repositories.look_up(checkout, name) or b"" for name in names[:_MOST_BELOW]]
        return b"\n".join(text for text in texts if b"lava-" in text and b"\0" not in text) if names else None

    def _load(self, checkout: Checkout, path: str) -> bytes | None:
        try:
            if path.endswith("/"):
                return self._below(checkout, path)
            return self._repositories.look_up(checkout, path)
        except SetupError:
            return None
