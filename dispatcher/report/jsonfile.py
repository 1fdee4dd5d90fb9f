# SPDX-License-Identifier: MIT
"""Results as one JSON document; docs/results.schema.json says what is in it."""

import json
from dataclasses import asdict
from typing import Any

from dispatcher.group.events import readable
from dispatcher.group.results import Case, Remark, Run
from dispatcher.report import Report
from toolkit import VERSION
from toolkit.wire.vocabulary import RESULTS

# Raised when a reader of older documents could misunderstand a new one.
FORMAT = 1


def document(report: Report) -> bytes:
    """The JSON document."""
    devices = {name: _device(report, name, role) for name, role in report.results.devices}
    # A run's number among those of its device.
    place: dict[int | None, int | None] = {None: None}
    for number, run in enumerate(report.results.runs):
        runs = devices[run.device]["runs"]
        place[number] = len(runs)
        runs.append(_run(run))
    for case in report.results.cases:
        devices[case.device]["counts"][case.result] += 1
        devices[case.device]["results"].append(_case(case, place[case.run]))
    for remark in report.results.remarks:
        devices[remark.device][_REMARKS[remark.kind]].append(_remark(remark, place[remark.run]))
    failures = [
        {"kind": failure.kind, "device": failure.device, "sentence": failure.sentence}
        for failure in report.failures
    ]
    value = {
        "format": FORMAT,
        "generator": f"lavabox {VERSION}",
        "devices": list(devices.values()),
        "failures": failures,
    }
    return (json.dumps(_readable(value), indent=1, allow_nan=False) + "\n").encode()


_REMARKS = {"raise": "raises", "event": "events", "feedback": "feedback", "refused": "refused"}


def _device(report: Report, name: str, role: str) -> dict[str, Any]:
    row = next((row for row in report.rows if row.device == name), None)
    count, last = report.results.malformed(name)
    return {
        "name": name,
        "role": role,
        "outcome": None
        if row is None
        else {"sentence": row.result, "good": row.good, "seconds": row.seconds},
        "counts": dict.fromkeys(RESULTS, 0),
        "runs": [],
        "results": [],
        **{kind: [] for kind in _REMARKS.values()},
        "malformed_signals": {"count": count, "last": [asdict(signal) for signal in last]},
    }


def _run(run: Run) -> dict[str, Any]:
    return {name: value for name, value in asdict(run).items() if name != "device"}


def _case(case: Case, run: int | None) -> dict[str, Any]:
    return {
        "id": case.id,
        "result": case.result,
        "run": run,
        "set": case.set,
        "measurement": case.measurement,
        "units": case.units,
        "reference": case.reference,
        "time": case.time,
        "seconds": case.seconds,
        "position": case.position,
        "output": None if case.start is None else {"start": case.start, "end": case.end},
    }


def _remark(remark: Remark, run: int | None) -> dict[str, Any]:
    return {
        "text": remark.text,
        "run": run,
        "time": remark.time,
        "position": remark.position,
    }


def _readable(value: Any) -> Any:
    """The same without lone surrogates, at which many readers of JSON stumble."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return value
