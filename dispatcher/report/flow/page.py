# SPDX-License-Identifier: MIT
"""A flow as one HTML page that needs nothing else: a time line to scale, how it ended, and the table.

The page is page.html with page.css, page.js and the data put in. Its policy permits this very
script and style sheet, by their hashes, and nothing more: no network, and nothing that a device's
text could smuggle in. The text is escaped besides.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from importlib import resources
from string import Template
from typing import Any

from dispatcher.group.events import WaitKind
from dispatcher.group.results import Case
from dispatcher.group.wording import counted
from dispatcher.report.flow import words
from dispatcher.report.flow.model import Flow, How, Message, Wait
from dispatcher.report.flow.table import Cell, Kind, Table, clean
from toolkit import VERSION

# Pairs of one message, and missing devices of one wait, that the page holds.
_MOST_PAIRS = 50
# Sentences about waits; for each of them the log is searched.
_MOST_TROUBLES = 50
# Cells of the table that the page holds: browsers are slow with more.
_MOST_CELLS = 60_000
# Cells with which the table is open from the start.
_MOST_OPEN = 5_000
# The latest time that has a date with a year of four digits.
_LATEST = 253402300799.0

_HOW = list(How)


def document(flow: Flow, table: Table | None, title: str, live: str = "") -> bytes:
    """The page.

    :param table: None: the page has the time line alone.
    :param title: says what the flow is of.
    :param live: names the state of a flow that goes on, without quotation marks. The page asks its own address with
        "?seen=STATE" for the next one, and expects 204 while there is none.
    """
    style, script = _packaged("page.css"), _packaged("page.js")
    more = "; connect-src 'self'" if live else ""
    page = Template(_packaged("page.html")).substitute(
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'{more}",
        live=f' data-live="{live}"' if live else "",
        title=_html(title),
        facts=_html(_facts(flow)),
        ending="".join(_troubles(flow) if live else _ending(flow)),
        style=style,
        script=script,
        data=_embedded(_data(flow)),
        table="" if table is None else "".join(_section(table)),
        version=_html(VERSION),
    )
    return page.encode("utf-8", "backslashreplace")


def _packaged(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _html(text: str) -> str:
    return escape(clean(text))


def _embedded(value: object) -> str:
    """JSON that can stand in a script element: nothing in it ends the element, or begins another one."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# What stands in the page as text


def _facts(flow: Flow) -> str:
    roles = len({device.role for device in flow.devices.values()})
    facts = [counted(len(flow.devices), "device"), counted(roles, "role")]
    facts += [counted(len(flow.waits), "wait"), counted(len(flow.messages), "message")]
    if flow.cases:
        facts.append(counted(len(flow.cases), "result"))
    facts.append(f"the newest of {words.duration(flow.end)}" if flow.begin else words.duration(flow.end))
    if 0 < flow.start <= _LATEST:
        facts.append(f"began {datetime.fromtimestamp(flow.start, UTC):%Y-%m-%d %H:%M:%S} UTC")
    return " · ".join(facts)


def _ending(flow: Flow) -> Iterator[str]:
    yield f'<p class="verdict {"good" if words.good(flow) else "bad"}">{_html(words.ending(flow))}</p>'
    yield from _troubles(flow, still=True)


def _troubles(flow: Flow, *, still: bool = False) -> Iterator[str]:
    """What went wrong with waits; also of those that are open, if it is over (`still`)."""
    troubles = [trouble for trouble in words.troubles(flow) if still or trouble.how is not How.OPEN]
    if not troubles:
        return
    yield '<ul class="troubles">'
    for trouble in troubles[:_MOST_TROUBLES]:
        kind = "stuck" if trouble.stuck else "over"
        yield f'<li class="{kind}"><button type="button" data-wait="{trouble.waits[0]}">show</button> '
        yield f"{_html(words.sentence(trouble))}"
        yield from _doings(flow, trouble)
        yield "</li>"
    yield "</ul>"
    if len(troubles) > _MOST_TROUBLES:
        yield f"<p>These are the first {_MOST_TROUBLES} of {len(troubles)} sentences.</p>"


def _doings(flow: Flow, trouble: words.Trouble) -> Iterator[str]:
    """What those do, or did last, that this waits for."""
    doings = words.doings(flow, trouble)
    if doings:
        yield "<ul>" + "".join(f"<li>{_html(doing)}</li>" for doing in doings) + "</ul>"


def _section(table: Table) -> Iterator[str]:
    yield '<section aria-label="Flow table">\n<h2>Flow table</h2>\n<p class="hint">One row after the other, in the order '
    yield "of time. Shaded: blocked. …: running. Hatched: not in the group.</p>\n"
    yield from _table(table)
    yield "\n</section>"


def _table(table: Table) -> Iterator[str]:
    rows = table.rows[: max(1, _MOST_CELLS // max(1, len(table.columns)))]
    # What is not open costs no layout.
    size = f"{counted(len(table.rows), 'row')}, {counted(len(table.columns), 'column')}"
    is_open = " open" if len(rows) * len(table.columns) <= _MOST_OPEN else ""
    yield f'<details{is_open}><summary>{size}</summary><div class="scroll"><table><thead><tr><th scope="col">{_html(table.head)}</th>'
    for column in table.columns:
        detail = f"<small>{_html(column.detail)}</small>" if column.detail else ""
        yield f'<th scope="col">{_html(column.name)} {detail}</th>'
    yield "</tr></thead><tbody>"
    for row in rows:
        yield f'<tr><th scope="row">{_html(row.head)}</th>{"".join(map(_cell, row.cells))}</tr>\n'
    yield "</tbody></table></div></details>"
    if len(rows) < len(table.rows):
        yield f"<p>The table has {len(table.rows)} rows, of which these are the first {len(rows)}: "
        yield "<code>lavabox flow GROUPLOG -o FILE.txt</code> writes all.</p>"


def _cell(cell: Cell) -> str:
    if cell.kind is not Kind.CALL:
        return f'<td class="{cell.kind.value}">{"…" if cell.kind is Kind.RUNNING else ""}</td>'
    note = f" <small>{_html(cell.note)}</small>" if cell.note else ""
    return f'<td class="call{" bad" if cell.bad else ""}">{_html(cell.text)}{note}</td>'


# What the script draws


def _data(flow: Flow) -> dict[str, Any]:
    """All that is drawn; devices, messages and so on are referred to by their places in these lists."""
    place = {name: number for number, name in enumerate(flow.devices)}
    # The waits of one barrier share their list, which would take up most of the page otherwise. The device's own
    # message, which may be in it, the script leaves out.
    pools: dict[int, tuple[int, tuple[int, ...]]] = {}  # by identity: their number, and themselves
    waits = [_wait(wait, place, pools) for wait in flow.waits]
    return {
        "begin": flow.begin,
        "end": flow.end,
        "how": [how.value for how in How],
        "devices": [
            {
                "name": clean(device.name),
                "role": clean(device.role),
                "stays": [[stay.joined, stay.left, clean(stay.reason)] for stay in device.stays],
            }
            for device in flow.devices.values()
        ],
        "waits": waits,
        "pools": [pool for _, pool in pools.values()],
        "messages": [_message(message, place) for message in flow.messages],
        "cases": [_case(flow, case, place) for case in flow.cases],
        "runs": [
            {
                "device": place[run.device],
                "name": clean(run.name),
                "began": flow.relative(run.started),
                "ended": None if run.ended is None else flow.relative(run.ended),
                "status": run.status,
                "early": run.ended_early,
                "reason": clean(run.reason),
            }
            for run in flow.runs
        ],
        "remarks": [
            {
                "device": place[remark.device],
                "kind": remark.kind,
                "text": clean(remark.text),
                "time": flow.relative(remark.time),
            }
            for remark in flow.remarks
        ],
    }


def _wait(wait: Wait, place: dict[str, int], pools: dict[int, tuple[int, tuple[int, ...]]]) -> dict[str, Any]:
    value: dict[str, Any] = {
        "device": place[wait.device],
        "call": clean(wait.call),
        "began": wait.began,
        "ended": wait.ended,
        "how": _HOW.index(wait.how),
    }
    if wait.needed:
        value["last"] = wait.last
        value["needed"] = pools.setdefault(id(wait.needed), (len(pools), wait.needed))[0]
    else:
        value["missing"] = [place[name] for name in wait.missing]
        if wait.more:
            value["more"] = wait.more
        value["reason"] = clean(wait.reason)
    if wait.kind is WaitKind.SYNC:
        value["sync"] = True
    if wait.timeout is not None:
        value["timeout"] = wait.timeout
    if wait.stuck:
        value["stuck"] = True
    return value


def _message(message: Message, place: dict[str, int]) -> dict[str, Any]:
    value: dict[str, Any] = {"device": place[message.device], "id": clean(message.id), "time": message.time}
    if message.unlocks:
        value["unlocks"] = True
    if message.wait is not None:
        value["wait"] = message.wait
    if message.data:
        value["data"] = [[clean(key), clean(item)] for key, item in message.data[:_MOST_PAIRS]]
        value["pairs"] = len(message.data)
    if message.released:
        value["released"] = message.released
    return value


def _case(flow: Flow, case: Case, place: dict[str, int]) -> dict[str, Any]:
    value: dict[str, Any] = {
        "device": place[case.device],
        "id": clean(case.id),
        "result": case.result,
        "time": flow.relative(case.time),
    }
    if case.measurement is not None:
        value["measurement"] = clean(f"{case.measurement} {case.units or ''}".strip())
    if case.seconds is not None:
        value["seconds"] = min(case.seconds, flow.end)
    if case.run is not None:
        value["run"] = case.run
    if case.set is not None:
        value["set"] = clean(case.set)
    return value
