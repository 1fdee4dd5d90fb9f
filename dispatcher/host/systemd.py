# SPDX-License-Identifier: MIT
"""What a service tells systemd, if systemd has started it."""

import os
import socket


def notify(state: str) -> None:
    """Say "READY=1", "RELOADING=1" and the like; nothing happens where nobody wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
            connection.send(state.encode())
        except OSError:
            # It is only a courtesy.
            return
