# SPDX-License-Identifier: MIT
"""Connections that have not sent their first message: their number is bounded."""

from typing import Protocol

# Connections at a time, for each thing that listens.
MAX_STRANGERS = 256


class Connection(Protocol):
    """What can be given up."""

    def drop(self) -> None:
        """End the connection."""


class Strangers:
    """When there are too many, the oldest is dropped: a client that only connects, a thousand times, keeps nobody out."""

    def __init__(self, limit: int = MAX_STRANGERS) -> None:
        self._limit = limit
        self._connections: dict[Connection, None] = {}

    def add(self, connection: Connection) -> None:
        """Add a new connection; the oldest one may be dropped for it."""
        self._connections[connection] = None
        if len(self._connections) > self._limit:
            oldest = next(iter(self._connections))
            self.remove(oldest)
            oldest.drop()

    def remove(self, connection: Connection) -> None:
        """It has sent its first message, or is closed."""
        self._connections.pop(connection, None)
