# SPDX-License-Identifier: MIT
"""A lab on HTTP: /metrics for Prometheus, /healthz, and a page that shows the lab as it is now."""

import asyncio
import ipaddress
import logging
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib import resources
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from dispatcher.engine import MAX_BYTES
from dispatcher.errors import SetupError
from dispatcher.group.events import Event, Founded
from dispatcher.host.listening import address_text
from dispatcher.lab.lab import TAIL, Lab
from dispatcher.report.flow.model import Fold
from dispatcher.report.flow.page import document

# Connections at a time; for a further one, the oldest of the last so many is closed.
MAX_CONNECTIONS = 256
# No script, style or picture of anybody else; and nobody else shows this page in theirs.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FILES = {"/": "lab.html", "/lab.css": "lab.css", "/lab.js": "lab.js"}
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


# Steps of a group that its time line shows, the newest: a page that is drawn anew every second.
_MOST_STEPS = 1000


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether this is a fault of ours: whoever sends what is no request is answered, and not told of."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


_logger = logging.getLogger(__name__)
_logger.addFilter(_is_ours)


class Site:
    """The pages of a lab; make them before its groups are opened, `open` them, and `close` them at the end."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._flows: dict[str, Fold] = {}
        lab.groups.readers.append(self._read)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._local = True

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises SetupError."""
        self._local = _is_loopback(host)
        application = web.Application(middlewares=[self._guard])
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._health)
        application.router.add_get("/status.json", self._status)
        application.router.add_get("/devices/{name}/tail", self._tail)
        application.router.add_get("/groups/{name}/flow", self._flow)
        for path in _FILES:
            application.router.add_get(path, self._file)
        self._runner = web.AppRunner(application, access_log=None, logger=_logger)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        newest: deque[web.RequestHandler] = deque()

        def connection() -> asyncio.Protocol:
            # Browsers keep connections open, and so does whoever wants to keep others out.
            if len(newest) == MAX_CONNECTIONS:
                newest.popleft().force_close()
            newest.append(server())
            return newest[-1]

        try:
            self._server = await asyncio.get_running_loop().create_server(connection, host, port)
        except OSError as error:
            raise SetupError(f"http {address_text(host, port)}: {os.strerror(error.errno or 0)}") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        # A page elsewhere that gives its own name our address would otherwise read the lab by its visitors' browsers.
        if self._local and not _is_loopback((request.url.host or "").lower()):
            raise web.HTTPForbidden(text="this is served to localhost only; see --http\n")
        response = await handler(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    async def _file(self, request: web.Request) -> web.Response:
        name = _FILES[request.path]
        body = resources.files("dispatcher.lab").joinpath("pages", name).read_bytes()
        return web.Response(body=body, content_type=_KINDS[name.rpartition(".")[2]], charset="utf-8")

    async def _status(self, request: web.Request) -> web.Response:
        return web.json_response(self._lab.status())

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            body="".join(metrics(self._lab.status())).encode(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _tail(self, request: web.Request) -> web.Response:
        device = self._lab.devices.get(request.match_info["name"])
        if device is None:
            raise web.HTTPNotFound(text="there is no such device\n")
        text = bytes(device.tail[-TAIL:]).decode("utf-8", "replace").replace("\r\n", "\n")
        return web.Response(text=_CONTROL.sub("", text))

    def _read(self, name: str, event: Event) -> None:
        """The next event of a group."""
        if isinstance(event, Founded) or name not in self._flows:
            # Those that have ended are forgotten with the first new one.
            self._flows = {
                known: fold for known, fold in self._flows.items() if known in self._lab.groups.groups
            }
            self._flows[name] = Fold()
        self._flows[name].apply(event)

    async def _flow(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        hosted = self._lab.groups.groups.get(name)
        if hosted is None:
            raise web.HTTPNotFound(text=f"there is no group {name}\n")
        engine = hosted.engine
        state = f"{engine.state.number:x}-{engine.state.changes}"
        if request.query.get("seen") == state:
            return web.Response(status=204)
        now = engine.epoch + asyncio.get_running_loop().time()
        flow = self._flows[name].recent(_MOST_STEPS, now)
        return web.Response(
            body=document(flow, None, f"Flow of {name}", state),
            content_type="text/html",
            charset="utf-8",
            # The page has a policy of its own, which allows its own script by hash.
            headers={"Content-Security-Policy": "frame-ancestors 'self'"},
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def metrics(status: Mapping[str, Any]) -> Iterator[str]:
    """The status of a lab, in the text format of Prometheus."""
    devices, groups = status["devices"], status["groups"]
    yield from _metric(
        "lavabox_device_connected",
        "gauge",
        "Whether the console of a device is connected.",
        [(_of_device(device), int(device["connected"])) for device in devices],
    )
    yield from _metric(
        "lavabox_device_output_bytes_total",
        "counter",
        "What a device has printed.",
        [(_of_device(device), device["printed"]) for device in devices],
    )
    yield from _metric(
        "lavabox_device_clients",
        "gauge",
        "Who looks at the console of a device.",
        [(_of_device(device), device["clients"]) for device in devices],
    )
    yield from _metric(
        "lavabox_console_events_total",
        "counter",
        "What went over a console since it was attached: frames, requests, lines typed, and what means trouble.",
        [
            ({**_of_device(device), "kind": kind}, number)
            for device in devices
            for kind, number in device["counters"].items()
        ],
    )
    yield from _metric(
        "lavabox_group_devices",
        "gauge",
        "Devices that are in a group.",
        [
            ({"group": group["name"]}, sum(not member["left"] for member in group["members"]))
            for group in groups
        ],
    )
    yield from _metric(
        "lavabox_group_results_total",
        "counter",
        "Results that the devices of a group have reported.",
        [
            ({"group": group["name"], "result": word}, number)
            for group in groups
            for word, number in group["results"].items()
        ],
    )
    yield from _metric(
        "lavabox_group_dead_end",
        "gauge",
        "Whether it was found that the devices of a group wait for each other.",
        [({"group": group["name"]}, int(bool(group["dead_end"]))) for group in groups],
    )
    yield from _metric(
        "lavabox_group_log_bytes",
        "gauge",
        f"What the log of a group holds of a device, in memory; at {MAX_BYTES} its requests are refused.",
        [
            ({"group": group["name"], "device": member["name"]}, member["log_bytes"])
            for group in groups
            for member in group["members"]
        ],
    )
    waits = {
        group["name"]: [wait["seconds"] for member in group["members"] for wait in member["waits"]]
        for group in groups
    }
    yield from _metric(
        "lavabox_group_waits",
        "gauge",
        "Waits of a group that are open.",
        [({"group": name}, len(times)) for name, times in waits.items()],
    )
    yield from _metric(
        "lavabox_group_longest_wait_seconds",
        "gauge",
        "How long the oldest open wait of a group has lasted.",
        [({"group": name}, max(times, default=0)) for name, times in waits.items()],
    )


def _of_device(device: Mapping[str, Any]) -> dict[str, str]:
    return {"device": device["name"], "group": device["group"], "role": device["role"]}


def _metric(name: str, kind: str, what: str, values: list[tuple[dict[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {name} {what}\n# TYPE {name} {kind}\n"
    for labels, value in values:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{shown}}} {value}\n"


def _escaped(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
