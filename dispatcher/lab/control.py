# SPDX-License-Identifier: MIT
"""The control socket of a service: requests and responses as lines of JSON, one of each on a connection.

{"do": "status"}                            {"ok": true, "status": {...}}
{"do": "remove", "device": "panda01"}       {"ok": false, "error": "there is no device panda01 ..."}
{"do": "console", "device": "panda01"}      {"ok": true}, and then the console itself, both ways
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dispatcher.errors import SetupError, UsageError
from dispatcher.host.listening import listen_on
from dispatcher.host.strangers import Strangers
from dispatcher.lab.offers import Client, Device

# Seconds for a request to come.
PATIENCE = 30.0
# Bytes of a request.
_MAX_REQUEST = 64 * 1024
_CONNECT_TIMEOUT = 10.0

# Carries out a request; returns what the response has beside "ok". Raises UsageError.
Handler = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class ControlServer:
    """Serves the socket.

    :param handlers: by what is to be done.
    :param console: finds the device of a name, for consoles; raises UsageError if there is none.
    """

    def __init__(self, handlers: Mapping[str, Handler], console: Callable[[str], Device] | None) -> None:
        self.handlers = handlers
        self.console = console
        self.strangers = Strangers()
        self._server: asyncio.Server | None = None
        self._path = ""

    async def open(self, path: str) -> None:
        """Listen. Raises SetupError."""
        listener = listen_on(path, 0o660)
        self._path = path
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=listener)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path)


class _Connection(asyncio.Protocol):
    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._work: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._patience = self._loop.call_later(PATIENCE, self.drop)
        self._server.strangers.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._patience.cancel()
        self._server.strangers.remove(self)

    def drop(self) -> None:
        """Give the connection up."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        line, newline, rest = bytes(self._buffer).partition(b"\n")
        if not newline:
            if len(self._buffer) > _MAX_REQUEST:
                self._transport.abort()
            return
        self._patience.cancel()
        self._server.strangers.remove(self)
        self._buffer[:] = rest
        # What follows is for the console, if it is to be one.
        self._transport.pause_reading()
        self._work = self._loop.create_task(self._carry_out(line))
        self._work.add_done_callback(asyncio.Task.result)

    async def _carry_out(self, line: bytes) -> None:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise UsageError("a request is an object")
            if request.get("do") == "console":
                self._become_console(request)
                return
            handler = self._server.handlers.get(str(request.get("do")))
            if handler is None:
                raise UsageError(
                    f"this service can't do {request.get('do')!r:.40}; it can {', '.join(self._server.handlers)}"
                )
            response = {"ok": True, **await handler(request)}
        except (UsageError, SetupError) as error:
            response = {"ok": False, "error": str(error)}
        except (ValueError, RecursionError):
            response = {"ok": False, "error": "the request is no JSON"}
        self._respond(response)
        self._transport.close()

    def _respond(self, response: Mapping[str, Any]) -> None:
        if not self._transport.is_closing():
            self._transport.write(json.dumps(response).encode() + b"\n")

    def _become_console(self, request: Mapping[str, Any]) -> None:
        if self._server.console is None:
            raise UsageError("this service has no consoles")
        client = Client(self._server.console(str(request.get("device"))), writes=bool(request.get("write")))
        self._respond({"ok": True})
        self._transport.set_protocol(client)
        client.connection_made(self._transport)
        if self._buffer:
            client.data_received(bytes(self._buffer))
        if not self._transport.is_closing():
            self._transport.resume_reading()


def connect(path: str, request: Mapping[str, Any]) -> tuple[socket.socket, dict[str, Any], bytes]:
    """Send a request; returns the connection, the response, and what came behind it. Raises SetupError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONNECT_TIMEOUT)
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        connection.settimeout(None)
        buffer = bytearray()
        while b"\n" not in buffer:
            piece = connection.recv(65536)
            if not piece:
                raise SetupError(f"{path}: the service has closed the connection")
            buffer += piece
    except OSError as error:
        connection.close()
        raise SetupError(
            f"{path}: {error.strerror or error}; is `lavabox serve LAB.toml` or `lavabox coordinator` running, and may you use it?"
        ) from error
    except BaseException:
        connection.close()
        raise
    line, _, rest = bytes(buffer).partition(b"\n")
    try:
        response = json.loads(line)
        if not isinstance(response, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError):
        connection.close()
        raise SetupError(f"{path}: what answers there is no lavabox") from None
    return connection, response, rest


def call(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Ask a service; returns its response. Raises SetupError, also if the answer is no."""
    connection, response, _ = connect(path, request)
    connection.close()
    if not response.get("ok"):
        raise SetupError(str(response.get("error")))
    return response
