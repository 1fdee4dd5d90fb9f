# SPDX-License-Identifier: MIT
"""A client of LAVA's coordinator protocol, one request at a time, as its dispatchers are."""

import json
import socket
import time
from typing import Any

# Seconds that anything may take; only a failure takes so long.
PATIENCE = 30.0


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes and close that half; returns all that comes back."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def packed(**request: Any) -> bytes:
    body = json.dumps(request).encode()
    return b"%08X" % len(body) + body


def ask(port: int, /, **request: Any) -> dict[str, Any]:
    """One request; returns the response."""
    answer = exchange(port, packed(**request))
    assert len(answer) == 8 + int(answer[:8], 16)
    response = json.loads(answer[8:])
    assert isinstance(response, dict)
    return response


class Job:
    """A job of a device in a group, as LAVA's dispatcher asks for it."""

    def __init__(self, port: int, group: str, client: str, role: str, size: int | None = 2) -> None:
        self._port = port
        self._head = {
            "group_name": group,
            "client_name": client,
            "role": role,
            "hostname": f"board-{client}",
            "port": 3079,
            "blocksize": 4096,
            "poll_delay": 3,
        }
        self._size = size

    def ask(self, request: str, **more: Any) -> dict[str, Any]:
        """One poll."""
        if request in ("group_data", "clear_group"):
            more = {"group_size": self._size, **more}
        return ask(self._port, request=request, **self._head, **more)

    def poll(self, request: str, **more: Any) -> dict[str, Any]:
        """Ask until the response is not "wait"."""
        end = time.monotonic() + PATIENCE
        while (response := self.ask(request, **more))["response"] == "wait":
            assert time.monotonic() < end, f"{request} {more} waits for ever"
            time.sleep(0.01)
        return response

    def send(self, message_id: str, **message: Any) -> dict[str, Any]:
        """lava-send."""
        return self.ask("lava_send", messageID=message_id, message=message or None)
