# SPDX-License-Identifier: MIT
"""Says hello over TCP: `greet.py serve COUNT` to so many clients, `greet.py ask ADDRESS` prints it."""

import socket
import subprocess
import sys

PORT = 8000


def serve(count: int) -> None:
    """Answer so many clients, and tell the group as soon as they can come."""
    with socket.create_server(("", PORT)) as server:
        subprocess.run(["lava-send", "listening"], check=True)
        for _ in range(count):
            client, (address, _) = server.accept()
            with client:
                client.sendall(f"hello to {address}".encode())


def ask(address: str) -> None:
    """Print what the server says."""
    with socket.create_connection((address, PORT)) as server:
        print(server.makefile().read())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        ask(sys.argv[2])
