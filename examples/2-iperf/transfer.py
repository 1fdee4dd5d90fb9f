# SPDX-License-Identifier: MIT
"""A plain transfer over TCP, for machines without iperf3.

transfer.py serve               listen on a free port, say which, and send to all who connect
transfer.py fetch ADDRESS PORT  receive that, and say how fast it came
"""

import socket
import sys
import time

SIZE = 64 * 1024 * 1024
CHUNK = bytes(64 * 1024)


def serve() -> None:
    with socket.create_server(("", 0)) as listener:
        print("listening on port", listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                for _ in range(SIZE // len(CHUNK)):
                    connection.sendall(CHUNK)


def fetch(address: str, port: int) -> int:
    received = 0
    with socket.create_connection((address, port), timeout=10) as connection:
        began = time.monotonic()
        while chunk := connection.recv(len(CHUNK)):
            received += len(chunk)
        seconds = time.monotonic() - began
    print(f"{received} bytes in {seconds:.2f} s: {received * 8 / seconds / 1e6:.0f} Mbit/s")
    return 0 if received == SIZE else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["fetch", address, port]:
            sys.exit(fetch(address, int(port)))
        case _:
            sys.exit(__doc__)
