# SPDX-License-Identifier: MIT
"""The files of definitions, for who reads their scripts."""

import os
from pathlib import Path

from dispatcher.jobs.model import Checkout, Definition, Place
from dispatcher.jobs.repositories import list_files, read_file
from dispatcher.jobs.source import MAX_BYTES, JobError
from dispatcher.plan.calls import ReadFile, ScriptFile


class ScriptFiles:
    """Reads each file once, and none outside the folder of its definition.

    :param invoked_in: the names of files are told from there.
    """

    def __init__(self, invoked_in: Path) -> None:
        self._invoked_in = invoked_in
        self._files: dict[tuple[Checkout, str], ScriptFile | None] = {}
        self._names: dict[Checkout, frozenset[str]] = {}

    def of(self, definition: Definition) -> ReadFile:
        """How to read the files of one definition."""
        return lambda path: self._read(definition, path)

    def _read(self, definition: Definition, path: str) -> ScriptFile | None:
        """`path` is normal."""
        for folder, repository in definition.repositories:
            if path.startswith(f"{folder}/"):
                return self._file(repository, path[len(folder) + 1 :])
        if definition.folder is None:
            return None
        return self._file(Checkout(definition.folder, definition.revision), path)

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

    def _load(self, checkout: Checkout, path: str) -> bytes | None:
        if checkout.revision is None:
            file = checkout.folder / path
            try:
                # A pipe would block for ever, and a link may lead anywhere.
                if not file.is_file() or not file.resolve().is_relative_to(checkout.folder.resolve()):
                    return None
                with file.open("rb") as stream:
                    return stream.read(MAX_BYTES + 1)
            except OSError:
                return None
        if checkout not in self._names:
            self._names[checkout] = frozenset(list_files(checkout))
        if path not in self._names[checkout]:
            return None
        try:
            return read_file(checkout, path, Place(path, 1))
        except JobError:
            return None
