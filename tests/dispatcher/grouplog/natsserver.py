# SPDX-License-Identifier: MIT
"""nats-server processes on the loopback interface, for tests."""

import atexit
import functools
import hashlib
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

# Seconds that a server may take; only a failure takes so long.
PATIENCE = 60
PROGRAM = Path(sys.executable).parent / "nats-server"


# Below the ports that the kernel gives to connections, any of which may be in the way of a server that starts again.
_FIRST_PORT, _LAST_PORT = 10_000, 30_000
_reserved: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses, and that no other test takes as long as this process lives."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randint(_FIRST_PORT, _LAST_PORT)
        mark = socket.socket(socket.AF_UNIX)
        try:
            mark.bind(f"\0lavabox-test-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            mark.close()
            continue
        _reserved.append(mark)
        ports.append(port)
    return ports


class NatsServer:
    """One server. It keeps its port and its files when it is started again."""

    def __init__(
        self, folder: Path, port: int | None = None, settings: str = "", *, jetstream: bool = True
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.host = f"127.0.0.1:{self.port}"
        folder.mkdir(exist_ok=True, parents=True)
        self.configuration = folder / "nats.conf"
        store = f'jetstream {{\n store_dir: "{folder}"\n sync_interval: always\n}}\n' if jetstream else ""
        self.configuration.write_text(f"listen: {self.host}\n{store}{settings}")
        self.program: Path = PROGRAM
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, ready: bool = True) -> Self:
        """Start it, and wait until it can be connected to."""
        self._process = subprocess.Popen(
            [self.program, "-c", self.configuration],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.text = ""
        # With the queue of this start: of the one before, something may still come.
        threading.Thread(target=_read, args=[self._process, self._lines], daemon=True).start()
        if ready:
            self.until("Server is ready")
        return self

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def until(self, text: str) -> None:
        """Wait until it has logged this."""
        while text not in self.text:
            line = self._lines.get(timeout=PATIENCE)
            assert line, f"nats-server ended:\n{self.text}"
            self.text += line

    def pause(self) -> None:
        """It does nothing more, and its connections stay; returns when it is so."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # All of its threads have stopped then, and not only some.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """It was paused."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.put(line)
    lines.put("")


def cluster(folder: Path, size: int = 3, settings: str = "") -> list[NatsServer]:
    """Servers that form a cluster once they are started."""
    ports = free_ports(2 * size)
    routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in ports[size:])
    return [
        NatsServer(
            folder / f"n{number}",
            ports[number],
            f"server_name: n{number}\n"
            f"cluster {{\n name: lab\n listen: 127.0.0.1:{ports[size + number]}\n routes: [{routes}]\n}}\n{settings}",
        )
        for number in range(size)
    ]


def start_all(servers: Sequence[NatsServer]) -> None:
    """Start them together: the first is ready only when it sees the others."""
    for server in servers:
        server.start(ready=False)
    for server in servers:
        server.until("Server is ready")


@functools.cache
def common() -> NatsServer:
    """A server for all tests of this process that need no other; each takes a lab of its own."""
    folder = tempfile.TemporaryDirectory(prefix="lavabox-nats-")
    server = NatsServer(Path(folder.name)).start()
    atexit.register(folder.cleanup)
    atexit.register(server.kill)
    return server


def end_common() -> None:
    """End that server, if there is one: for tests that look at all processes below this one."""
    if common.cache_info().currsize:
        common().kill()
        common.cache_clear()


def url(folder: Path) -> str:
    """A lab of the common server, for the test with this folder."""
    return urls([common()], hashlib.sha256(str(folder).encode()).hexdigest()[:16])


def urls(servers: Sequence[NatsServer], lab: str) -> str:
    """How a dispatcher names them."""
    return f"nats://{','.join(server.host for server in servers)}/{lab}"
