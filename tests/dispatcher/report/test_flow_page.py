# SPDX-License-Identifier: MIT
"""The flow page: that it holds any text harmlessly, and what Chromium makes of it, if there is one."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.flow import CHROMIUM, OPTIONS, events
from dispatcher.group.events import Event, Sent, Waiting, WaitKind
from dispatcher.report.flow import page, tables
from dispatcher.report.flow.model import Fold
from tests.dispatcher.group.play import joined, reported
from tests.dispatcher.lavabox_process import PATIENCE
from tests.dispatcher.report.written_log import Log, fold, reference

HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "a\"b'c<img src=x onerror=\"document.title='owned'\">",
    "\x1b[31mred\u202egnp.exe",
    "very-" * 30 + "long",
    "$style${data}<!--<script>",
    "&lt;b&gt;&quot;]]>",
]


def draw(log: list[Event], title: str = "a flow") -> str:
    flow = fold(log)
    return page.document(flow, tables.table(flow), title).decode()


def hostile() -> list[Event]:
    """A log in which every text is hostile."""
    log: list[Event] = [joined(name, HOSTILE[number % 2], 1e9) for number, name in enumerate(HOSTILE)]
    for number, name in enumerate(HOSTILE):
        message_id = HOSTILE[-number - 1].replace(" ", "_").encode() + b"\xff"
        request = bytes([number])
        log.append(Waiting(1e9 + 1 + number, name, request, WaitKind.WAIT_ALL, message_id, HOSTILE[0], None))
        pair = (name.encode(), name.encode() + b"\xfe\xe2\x80\xa8" + b"v" * 60_000)
        log.append(Sent(1e9 + 2 + number, name, b"s" + request, message_id, (pair,)))
        case = (name + "\udcff", "fail", "1.5", name)
        log.append(reported(name, "result", *case, time=1e9 + 3 + number))
        log.append(reported(name, "run-start", name, "u", time=1e9 + 3 + number))
        log.append(reported(name, "raise", name, time=1e9 + 3 + number))
    return log


def hanging() -> list[Event]:
    log = Log(server="server", alice="client", bob="client").send("server", "redy")
    for device in ("alice", "bob"):
        log.wait(WaitKind.WAIT_ALL, device, "ready", "server")
    return log.leave("server").wait(WaitKind.WAIT, "alice", "never").events


class Parsed(HTMLParser):
    """The elements of a page, and the texts of its scripts and style sheet."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.raw.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag in ("script", "style"):
            self.raw[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.lasttag = ""


@pytest.mark.parametrize(
    "log", [reference().events, hostile(), hanging()], ids=["reference", "hostile", "hanging"]
)
def test_the_page_is_whole_and_closed(log: list[Event]) -> None:
    parsed = Parsed(draw(log, HOSTILE[0]))
    style, data, script = parsed.raw
    policy = next(attributes["content"] for tag, attributes in parsed.elements if "http-equiv" in attributes)
    for text in (style, script):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in str(policy)
    assert str(policy).startswith("default-src 'none';")
    assert "unsafe" not in str(policy)
    assert [tag for tag, _ in parsed.elements if tag in ("img", "link", "iframe", "object", "base")] == []
    loading = {"src", "href", "style", "srcset", "action"}
    assert not any(loading & attributes.keys() for _, attributes in parsed.elements)
    flow = fold(log)
    assert len(json.loads(data)["waits"]) == len(flow.waits)
    assert [device["name"] for device in json.loads(data)["devices"]][:1] == [
        page.clean(next(iter(flow.devices)))
    ]


def test_large_data_does_not_make_the_page_large() -> None:
    assert len(draw(hostile())) < 150_000


def test_waits_of_one_barrier_share_what_they_needed() -> None:
    log = events(50, 600)
    data = json.loads(Parsed(draw(log)).raw[1])
    flow = fold(log)
    for wait, told in zip(flow.waits, data["waits"], strict=True):
        assert (data["pools"][told["needed"]] if "needed" in told else []) == list(wait.needed)
    assert len(data["pools"]) < len(flow.waits) / 4


# In the browser


Browse = Callable[..., str]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Loads a page; returns what has become of it. What the browser's console says is a failure."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        pytest.skip("there is no Chromium on this machine to show the page")

    def load(html: str, place: str = "", actions: str = "") -> str:
        if actions:
            html = re.sub("script-src '[^']*'", "script-src 'unsafe-inline'", html)
            html = html.replace("</body>", f"<script>{actions}</script></body>")
        path = tmp_path / "flow.html"
        path.write_text(html)
        arguments = [
            *(chromium, *OPTIONS, f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr"),
            *(
                "--window-size=1400,1000",
                "--virtual-time-budget=3000",
                "--dump-dom",
                "--run-all-compositor-stages-before-draw",
                path.as_uri() + place,
            ),
        ]
        run = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE * 2)
        assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []
        assert 'data-flow="ready"' in run.stdout, run.stdout[:2000] + run.stderr
        assert "data-error" not in run.stdout[: run.stdout.index("<head>")]
        return run.stdout

    return load


def test_a_flow_that_goes_on_is_taken_over_and_what_is_looked_at_stays(tmp_path: Path) -> None:
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        pytest.skip("there is no Chromium on this machine to show the page")
    log, fold_ = hanging(), Fold()
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """The first half of the log, the whole of it, and no more."""
            asked.append(self.path)
            if self.path == "/?seen=2":
                self.send_response(204)
                self.end_headers()
                return
            for event in log[: -2 if len(asked) == 1 else None]:
                fold_.apply(event)
            body = page.document(fold_.recent(1000, log[-1].time), None, "live", str(min(2, len(asked))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Nobody wants to know."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        arguments = (f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=4000", "--dump-dom")
        dom = subprocess.run(
            [chromium, *OPTIONS, *arguments, f"{address}#wait=0"],
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
        ).stdout
        server.shutdown()
    assert "/?seen=1" in asked and "/?seen=2" in asked and asked.count("/") == 1
    assert [told(dom, name) for name in ("live", "bars", "lanes")] == ["2", "3", "3"]
    # The wait that was selected ended with the second half.
    assert "server ended without sending 'ready'" in element(dom, "details")


def told(dom: str, name: str) -> str:
    """An attribute that the script sets on the root element."""
    root = dom[: dom.index("<head>")]
    found = re.search(rf'data-{name}="([^"]*)"', root)
    assert found, root
    return found[1]


def element(dom: str, name: str) -> str:
    """The text of the element with this id, without tags."""
    found = re.search(rf'id="{name}"[^>]*>(.*?)(?=<div id="tip"|<noscript|<section|</body)', dom, re.DOTALL)
    assert found
    return re.sub("<[^>]*>", " ", found[1])


def test_the_time_line_of_the_reference(browse: Browse) -> None:
    dom = browse(draw(reference().events), "#wait=3")
    assert [told(dom, name) for name in ("lanes", "bars", "arrows", "marks")] == ["3", "7", "5", "1"]
    details = " ".join(element(dom, "details").split())
    assert "lava-wait-all ready server" in details
    assert "blocked 302 ms, from 0.004 s to 0.306 s" in details
    assert "released by s, which sent ready at 0.306 s" in details
    assert "All devices have ended" not in dom
    assert re.search('class="fulfilled" d="M', dom)


def test_hostile_texts_stay_texts(browse: Browse) -> None:
    dom = browse(draw(hostile(), HOSTILE[0]), "#message=0")
    title = re.search("<title>(.*?)</title>", dom)
    assert title
    assert title[1] == "&lt;/script&gt;&lt;script&gt;document.title='owned'&lt;/script&gt;"
    assert "<img" not in dom
    assert dom.count("<script") == 2 + json.dumps(Parsed(dom).raw[1]).count("<script")
    assert told(dom, "lanes") == str(len(HOSTILE))


def test_a_job_that_hangs_says_why(browse: Browse) -> None:
    dom = browse(draw(hanging()), "#wait=0")
    assert "1 of 3 devices is still blocked" in dom
    assert "alice has been blocked for 0 ms in 'lava-wait never', waiting for bob." in dom
    assert "server ended without sending 'ready'" in element(dom, "details")
    assert "had still to send" in dom


def test_fifty_devices(browse: Browse) -> None:
    log = events(50, 2000)
    dom = browse(draw(log))
    flow = fold(log)
    assert told(dom, "lanes") == "50"
    assert told(dom, "bars") == str(len(flow.waits))
    assert int(told(dom, "arrows")) == sum(
        wait.last is not None and (wait.kind is not WaitKind.SYNC or wait.seconds > 0) for wait in flow.waits
    )
    # A path for each kind of thing, not an element for each thing.
    plot = dom[dom.index('id="plot"') : dom.index('id="legend"')]
    assert plot.count("<path") + plot.count("<rect") < 200


ACTIONS = """
const $ = (id) => document.getElementById(id), said = {};
const text = (id) => $(id).textContent;
const key = (name) => $("plot").dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
const ticks = () => [...document.querySelectorAll("#axis text")].map((tick) => tick.textContent).join();
const box = () => $("plot").getBoundingClientRect();
const moved = (kind, x, y) => $("plot").dispatchEvent(
  new PointerEvent(kind, { clientX: box().left + x, clientY: box().top + y, button: 0, bubbles: true }));
// A browser that shows nothing may never ask for a frame.
window.requestAnimationFrame = (draw) => setTimeout(draw, 0);
const frame = () => new Promise((done) => setTimeout(done, 5));
(async () => {
  const before = ticks();
  said.fit = before;
  moved("pointermove", box().width * 0.4, 3 * 40 - 20);
  said.hover = $("tip").hidden ? "" : text("tip");
  moved("pointerdown", box().width * 0.4, 3 * 40 - 20);
  moved("pointerup", box().width * 0.4, 3 * 40 - 20);
  said.selected = text("details");
  said.links = document.querySelectorAll(".link").length;
  key("Escape");
  said.unselected = text("details");
  key("ArrowRight");
  said.first = $("tip").hidden ? "" : text("tip");
  key("ArrowDown");
  said.below = text("tip");
  $("plot").dispatchEvent(new WheelEvent("wheel", { deltaY: -400, ctrlKey: true, cancelable: true }));
  await frame();
  said.zoomed = ticks();
  key("0");
  await frame();
  said.again = ticks();
  $("search").value = "ready";
  $("search").dispatchEvent(new Event("input"));
  said.found = text("found");
  $("search").value = "observer";
  $("search").dispatchEvent(new Event("input"));
  said.lanes = document.documentElement.dataset.lanes;
  document.documentElement.dataset.said = JSON.stringify(said);
})();
"""


def test_pointer_keys_zoom_and_search(browse: Browse) -> None:
    dom = browse(draw(reference().events), actions=ACTIONS)
    said = json.loads(told(dom, "said").replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">"))
    assert "lava-sync fin" in said["hover"]
    assert "o (observer)" in said["hover"]
    assert "released by" in said["selected"]
    assert said["links"] == 2  # from the server's and the client's lava-sync
    assert said["unselected"] == ""
    assert "s (server)" in said["first"]
    assert "c (client)" in said["below"]
    assert said["zoomed"] != said["fit"]
    assert said["again"] == said["fit"]
    assert said["found"] == "2 devices, 2 matches"
    assert said["lanes"] == "1"
