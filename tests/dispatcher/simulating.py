# SPDX-License-Identifier: MIT
"""`lavabox sim` in a folder of a test."""

import textwrap
from pathlib import Path

from tests.dispatcher.lavabox_process import Lavabox


class Simulator:
    """Starts `lavabox sim`.

    :param folder: where it is started.
    :param box: the zipapp for its devices.
    :param temporary: the folder that it has for temporary files.
    :param options: those of every call.
    """

    def __init__(self, folder: Path, box: Path, temporary: Path, options: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.box = box
        self.temporary = temporary
        self._options = options

    def start(self, *arguments: str, **environment: str) -> Lavabox:
        """The running process; to be used as a context manager."""
        return Lavabox(
            *("sim", "--box", str(self.box), *self._options, *arguments),
            cwd=self.folder,
            environment={"TMPDIR": str(self.temporary), **environment},
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit status, and what was printed."""
        with self.start(*arguments, **environment) as process:
            return process.finish(), process.text

    def run_job(self, job: str, *arguments: str) -> tuple[int, str]:
        """The same with this text as the job's file."""
        self.write("job.yaml", job)
        return self.run("job.yaml", *arguments)

    def write(self, name: str, text: str) -> Path:
        """A file in the folder; its text may be indented as a whole."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def script(self, name: str, text: str) -> Path:
        """A shell script in the folder."""
        path = self.write(name, f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path
