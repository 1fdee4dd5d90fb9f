# SPDX-License-Identifier: MIT
"""Connections that have not said yet what they want: there is room for so many of them."""

from typing import Protocol

# Connections at a time, for each thing that listens.
MAX_STRANGERS = 256


class Connection(Protocol):
    """What can be given up."""

    def drop(self) -> None:
        """End the connection."""


class Strangers:
    """Whoever only connects, a thousand times, keeps nobody else out: the one that has been there longest makes place."""

    def __init__(self, limit: int = MAX_STRANGERS) -> None:
        self._limit = limit
        self._connections: dict[Connection, None] = {}

    def add(self, connection: Connection) -> None:
        """It has just been made. One that is here may be dropped for it."""
        self._connections[connection] = None
        if len(self._connections) > self._limit:
            oldest = next(iter(self._connections))
            self.remove(oldest)
            oldest.drop()

    def remove(self, connection: Connection) -> None:
        """It is known now, or gone."""
        self._connections.pop(connection, None)
