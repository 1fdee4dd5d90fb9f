# SPDX-License-Identifier: MIT
"""The dispatcher: consoles that are attached to groups, each going its own way, until they are removed."""

import asyncio
from collections.abc import Callable

from dispatcher.host.attachment import Attachment

# Is told when a console could not be opened, or its task has failed.
Failed = Callable[[Attachment, BaseException], object]


class Dispatcher:
    """Runs attachments. One that fails takes no other down.

    :param failed: gets an attachment whose console can't be opened (ConsoleError), or one in which a fault of
        ours came to light.
    """

    def __init__(self, failed: Failed) -> None:
        self._failed = failed
        self._tasks: dict[str, tuple[Attachment, asyncio.Task[None]]] = {}

    @property
    def attachments(self) -> list[Attachment]:
        """In the order in which they were added."""
        return [attachment for attachment, _ in self._tasks.values()]

    def add(self, attachment: Attachment) -> None:
        """Begin to connect it; names are unique."""
        task = asyncio.get_running_loop().create_task(attachment.run())
        task.add_done_callback(lambda done: self._look_at(attachment, done))
        self._tasks[attachment.name] = attachment, task

    async def remove(self, name: str, reason: str | None) -> None:
        """End a console; `reason` as in `Attachment.close`."""
        attachment, task = self._tasks.pop(name)
        await attachment.close(reason)
        await asyncio.wait([task])

    async def close(self) -> None:
        """End all consoles."""
        tasks = list(self._tasks.values())
        outcomes = await asyncio.gather(
            *(attachment.close() for attachment, _ in tasks), return_exceptions=True
        )
        if tasks:
            await asyncio.wait([task for _, task in tasks])
        for (attachment, _), outcome in zip(tasks, outcomes, strict=True):
            if outcome is not None:
                self._failed(attachment, outcome)

    def _look_at(self, attachment: Attachment, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(attachment, error)
