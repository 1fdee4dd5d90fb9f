# SPDX-License-Identifier: MIT
"""An open console that has a file descriptor, read and written by the event loop."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future

from dispatcher.consoles import Listener

# Bytes that are read at once.
_READ_SIZE = 64 * 1024
# Bytes that wait to be written, above which nothing is taken.
_MAX_UNWRITTEN = 64 * 1024
# Seconds that a driver gets to send what is left.
_CLOSE_PATIENCE = 2.0


class LoopConnection:
    """A terminal or a socket, until it is lost or closed.

    :param descriptor: does not block.
    :param close: closes it, perhaps in another thread: then it returns that work.
    """

    def __init__(self, descriptor: int, close: Callable[[], Future[None] | None], listener: Listener) -> None:
        self._descriptor = descriptor
        self._close = close
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._unwritten = bytearray()
        self._refused = False  # whether `drained` is to follow
        self._open = True
        self._closing: Future[None] | None = None
        self._loop.add_reader(descriptor, self._readable)

    def write(self, data: bytes) -> bool:
        """Write the bytes; False if too many wait already."""
        if not self._open:
            return False
        if len(self._unwritten) > _MAX_UNWRITTEN:
            self._refused = True
            return False
        self._unwritten += data
        if len(self._unwritten) == len(data):
            self._writable()
        return True

    def pause(self) -> None:
        """Leave what comes to the kernel."""
        if self._open:
            self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        """Receive again."""
        if self._open:
            self._loop.add_reader(self._descriptor, self._readable)

    async def close(self) -> None:
        """Close it, and wait until it is; but not for ever."""
        self._end()
        if self._closing is not None:
            await asyncio.wait([asyncio.wrap_future(self._closing)], timeout=_CLOSE_PATIENCE)

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._closing = self._close()

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        if data:
            self._listener.received(data)
        else:
            self._lose("the other end closed the connection")

    def _lose(self, reason: str) -> None:
        self._end()
        self._listener.lost(reason)

    def _writable(self) -> None:
        try:
            del self._unwritten[: os.write(self._descriptor, self._unwritten)]
        except BlockingIOError:
            pass
        except OSError:
            # Reading comes to the same end, and is what deals with it.
            self._unwritten.clear()
        if self._unwritten:
            self._loop.add_writer(self._descriptor, self._writable)
            return
        self._loop.remove_writer(self._descriptor)
        if self._refused:
            self._refused = False
            self._listener.drained()
