# SPDX-License-Identifier: MIT
"""One group on a person's terminal, from its start to its table: what `sim` and `serve` have in common.

    Attachment --output--> display, console log
    Group --results, notices--> display
    signals, time-out, rules of a job, dead ends --> who is stopped, and when all ends

The consoles go their own ways in the `Dispatcher`; this decides when the run is over.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from dispatcher.consoles import Console, ConsoleError
from dispatcher.consoles.processes import (
    Processes,
    everything_below,
    kill_all,
    reap_orphans,
    send_signal,
)
from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.engine import Engine
from dispatcher.errors import SetupError
from dispatcher.files import told
from dispatcher.group.events import Event, Founded
from dispatcher.group.results import Case, Counts
from dispatcher.group.wording import command, counted
from dispatcher.grouplog import GroupLog, GroupLogError
from dispatcher.host.attachment import Attachment
from dispatcher.host.consolelog import ConsoleLogs
from dispatcher.host.deadwatch import Watch
from dispatcher.host.dispatcher import Dispatcher
from dispatcher.host.failedoutput import FailedOutput
from dispatcher.host.group import Group
from dispatcher.host.hangs import Hangs
from dispatcher.host.runsignals import take_over
from dispatcher.host.timer import Timer
from dispatcher.jobs.rules import JobRules
from dispatcher.line.session import Counters
from dispatcher.line.textpatterns import Pattern
from dispatcher.view.display import Display, Row
from dispatcher.view.interactive import ConsoleDisplay
from dispatcher.view.statusview import LiveView, Plain, Status, area, statuses
from toolkit.wire.vocabulary import INTERRUPTED, NO, RESULTS

# What the table says of a device that ended well, but for these failures of its tests.
_FAILURES = {
    "case": "failed result",
    "run": "failed run",
    "raise": "lava-test-raise",
    "refused": "refused command",
}


class State(Enum):
    """How far a device of a run has come."""

    WAITING = "not started"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # ended by itself, otherwise than successfully
    STOPPED = "stopped"  # ended from here
    TIMED_OUT = "stopped at a time-out"  # the same, as its time was over


class Ending(Enum):
    """Why a run ends before all its devices have, if neither a signal nor a failure ended it."""

    TIMED_OUT = "its time was over"
    LEFT = "somebody who works interactively has had enough"


@dataclass(slots=True, eq=False)
class Device:
    """A device of the run, and how it got on."""

    name: str
    role: str
    console: Console
    interactive: bool = False  # somebody works in it: its status means nothing
    state: State = State.WAITING
    how: str = ""  # it ended or was stopped, as a clause
    started: float = 0.0
    ended: float | None = None
    counts: Counts = field(default_factory=Counts)
    attachment: Attachment | None = None

    @property
    def connected(self) -> bool:
        """Whether its console has a connection."""
        return self.attachment is not None and self.attachment.connected

    @property
    def over(self) -> bool:
        """Whether nothing will come of it any more."""
        return self.ended is not None


class TerminalRun:
    """One run of a group of devices. `devices` hold the results afterwards.

    :param must_end: whether devices are to come to an end by themselves, and successfully.
    :param fail_fast: whether the run ends with the first result or device that has failed.
    :param rules: when devices of a job are stopped; in the time of the log.
    :param output: gets what the devices print, and their results.
    :param view: what the display writes to. Raises BrokenPipeError when nobody looks.
    :param watch: looks for dead ends.
    :param readers: are given each event of the log.
    :param token: returns 32 random bits.
    :param patterns: of runs whose output holds results, by the uuids of the runs.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        engine: Engine,
        log: GroupLog,
        display: Display,
        logs: ConsoleLogs | None,
        view: Plain | LiveView,
        *,
        must_end: bool,
        token: Callable[[], int],
        fail_fast: bool = False,
        rules: JobRules | None = None,
        output: FailedOutput | None = None,
        watch: Watch | None = None,
        readers: Sequence[Callable[[Event], object]] = (),
        patterns: Mapping[str, Pattern] | None = None,
    ) -> None:
        self.devices = {device.name: device for device in devices}
        self.log_failures: list[str] = []  # sentences on console logs that end early
        self.stopped_by: signal.Signals | None = None  # the signal that ended the run
        self._ending: Ending | None = None
        self._engine = engine
        self._display = display
        self._logs = logs
        self._output = output
        self._view = view
        self._must_end = must_end
        self._token = token
        self._fail_fast = fail_fast
        self._rules = rules
        self._patterns = patterns
        readers = [*readers, *([] if rules is None else [rules.apply])]
        self._group = Group(engine, log, self, readers)
        self._dispatcher = Dispatcher(self._failed)
        self._stopping: set[asyncio.Task[None]] = set()
        self._time_is_over: float | None = None
        self._failure: BaseException | None = None
        # Otherwise the status area shows what they do, or whoever works in them sees it.
        silent = isinstance(view, Plain) and not isinstance(display, ConsoleDisplay)
        self._hangs = Hangs(engine, watch, display.message, tells_silence=silent, must_end=must_end)
        self._timer = Timer(self._handle_timeout)

    async def run(self, founded: Founded, timeout: float | None = None) -> None:
        """Start all devices; return when all have ended, the time is over or a signal came, and all is tidy.

        Raises SetupError if the run can't begin; everything is ended then, too. The process must
        have no other use: its signals are taken over, and at the end all its descendants are killed.

        :param founded: how the group begins, if its log is new.
        """
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._loop.set_exception_handler(self._fail)
        take_over(self._view, stop=self._stop_by, reap=self._reap, redraw=self._group.wake)
        await self._group.open(founded)
        try:
            if not self._must_end and self._engine.state.changes > 1:
                others = counted(len(self._engine.state.coordinator.members), "device")
                self._display.message(f"the group goes on where its log ends: {others}")
            # All join before the first one starts: none may find itself alone in its group.
            for device in self.devices.values():
                device.attachment = self._attach(device)
            if timeout is not None:
                self._time_is_over = self._loop.time() + timeout
                self._loop.call_later(timeout, self._time_out, timeout)
            if isinstance(self._view, LiveView):
                self._view.show(self._area)
            for device in self.devices.values():
                if device.attachment is not None:
                    device.started = self._loop.time()
                    device.state = State.RUNNING
                    self._dispatcher.add(device.attachment)
            if isinstance(self._display, ConsoleDisplay):
                typing = {a.name: a for a in self._dispatcher.attachments}
                await self._display.open(typing, self._quit)
            # Sets the timer, also where no device ever does anything.
            self._group.wake()
            await self._stop.wait()
        finally:
            await self._tidy_up()
        if self._failure is not None:
            raise self._failure

    def rows(self) -> list[Row]:
        """The table of the devices, after the run."""
        failures = self._engine.state.results.failures(over=self._must_end)
        found = Counter((failure.device, failure.kind) for failure in failures)
        rows = []
        for device in self.devices.values():
            counts = {kind: found[device.name, kind] for kind in _FAILURES}
            failed = ", ".join(counted(count, _FAILURES[kind]) for kind, count in counts.items() if count)
            well = self._ended_well(device)
            seconds = 0.0 if device.ended is None else device.ended - device.started
            said = self._said(device, failed)
            good = well and not failed
            rows.append(Row(device.name, device.role, said, good, seconds, by_results=well and not good))
        return rows

    def counters(self) -> dict[str, Counters]:
        """What went over each console."""
        return {
            name: Counters() if device.attachment is None else device.attachment.counters
            for name, device in self.devices.items()
        }

    def _said(self, device: Device, failed: str) -> str:
        """How the device got on; `failed` says what has failed of its tests."""
        if device.state is State.RUNNING and not self._must_end:
            return ("connected" if device.connected else "not connected") + self._after(device)
        said = failed if device.state is State.SUCCEEDED else device.how
        return (said or device.state.value) + self._after(device)

    def _after(self, device: Device) -> str:
        return ", after a dead end" if self._engine.dead_ends[device.name] else ""

    def _ended_well(self, device: Device) -> bool:
        """Whether the device has done what it was to do, whatever its tests have found."""
        if self._engine.dead_ends[device.name]:
            return False
        if device.interactive:
            return self._ending is not Ending.TIMED_OUT
        if device.state in (State.RUNNING, State.STOPPED):
            if self._ending is Ending.TIMED_OUT and not device.connected:
                return False
            return self._ending is Ending.LEFT or not self._must_end
        return device.state is State.SUCCEEDED

    # Starting and ending

    def _attach(self, device: Device) -> Attachment | None:
        """The device's console, attached to the group."""

        def ended(reason: str, status: int) -> None:
            self._end(device, reason, status)

        position = 0 if self._logs is None else self._logs.size(device.name)
        if self._output is not None:
            self._output.begin(device.name, position)
        try:
            return Attachment(
                device.name,
                device.role,
                device.console,
                self._group,
                [_Output(self, device.name)],
                token=self._token,
                position=position,
                patterns=self._patterns,
                # A port lasts; it has a speed, and a command has none.
                expects_text=device.console.lasting,
                ended=ended,
            )
        except ValueError as error:
            raise SetupError(f"{error}; change that, or name a new file with --group-log") from error

    def _quit(self) -> None:
        self._ending = self._ending or Ending.LEFT
        self._stop.set()

    def _stop_by(self, number: signal.Signals) -> None:
        if self.stopped_by is not None:
            # The user has lost patience.
            send_signal(everything_below(), signal.SIGKILL)
            return
        self.stopped_by = number
        self._stop.set()

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        self._give_up(error if isinstance(error, BaseException) else RuntimeError(str(context["message"])))

    def _give_up(self, error: BaseException) -> None:
        """The run ends: nobody looks any more, or there is a fault in here."""
        if isinstance(error, BrokenPipeError):
            self.stopped_by = self.stopped_by or signal.SIGPIPE
        elif self._failure is None:
            self._failure = error
        self._stop.set()

    def _failed(self, attachment: Attachment, error: BaseException) -> None:
        """A console can't be opened, or a fault of ours came to light."""
        if not isinstance(error, ConsoleError):
            self._give_up(error)
            return
        device = self.devices[attachment.name]
        self._note_end(device, State.FAILED, f"could not be started: {error}")
        self._group.detach(attachment, device.how)
        self._after_end(device)

    def _time_out(self, seconds: float) -> None:
        if self._stop.is_set():
            return
        self._ending = Ending.TIMED_OUT
        self._display.message(f"timed out: the run was ended after {seconds:g} s")
        waits: dict[str, list[str]] = {}
        for wait in self._engine.state.coordinator.open_waits():
            sentence = f"waits in {command(wait.waiting)} for {wait.whom}"
            waits.setdefault(wait.waiting.device, []).append(sentence)
        for device in self.devices.values():
            if not device.over:
                what = ", and ".join(waits.get(device.name, ["waits for no other device"]))
                said = (
                    f"is still running, and {what}"
                    if device.connected
                    else "has no connection to its console"
                )
                self._display.notice(device.name, said)
        self._stop.set()

    async def _tidy_up(self) -> None:
        if isinstance(self._display, ConsoleDisplay):
            await self._display.close()
        timed_out = self._ending is Ending.TIMED_OUT
        stopped = [
            device for device in self.devices.values() if device.state is State.RUNNING and self._must_end
        ]
        for device in stopped:
            device.state = State.TIMED_OUT if timed_out else State.STOPPED
            device.how = "stopped at the time-out" if timed_out else "stopped"
        closing = (device.attachment.close() for device in stopped if device.attachment is not None)
        await asyncio.gather(*closing, return_exceptions=True)
        # Before one leaves, or the others' waits for it would fail.
        status, why = (NO, "the run timed out") if timed_out else (INTERRUPTED, "the run was stopped")
        for device in stopped:
            self._engine.end_waits(device.name, status, why, self._loop.time())
        for device in stopped:
            # Devices on other hosts may wait for it.
            removal = self._dispatcher.remove(device.name, f"was {device.how}")
            self._stopping.add(self._loop.create_task(removal))
        if self._stopping:
            await asyncio.wait(self._stopping)
        await self._dispatcher.close()
        await self._group.close()
        for device in self.devices.values():
            if not device.over and device.started:
                device.ended = self._loop.time()
        # Also those that have shed all marks, and become our children when their parents ended.
        stuck = await kill_all(Processes.all)
        if stuck:
            self._display.message(f"these processes could not be ended: {', '.join(map(str, stuck))}")
        self._reap()
        self._timer.cancel()
        if self._logs is not None:
            self._logs.close()

    def _reap(self) -> None:
        consoles = [device.console for device in self.devices.values()]
        reap_orphans([console.pid for console in consoles if isinstance(console, PtyProcess)])

    def _end(self, device: Device, reason: str, status: int) -> None:
        """The device has ended by itself."""
        if device.over:
            # It was being stopped.
            return
        self._note_end(device, State.SUCCEEDED if status == 0 else State.FAILED, reason)
        self._after_end(device)

    def _note_end(self, device: Device, state: State, how: str) -> None:
        device.state, device.how, device.ended = state, how, self._loop.time()
        self._display.notice(device.name, how, bad=state is not State.SUCCEEDED)

    def _after_end(self, device: Device) -> None:
        self._reap()
        if all(device.over for device in self.devices.values()):
            self._stop.set()
        elif self._rules is not None and device.state is not State.SUCCEEDED and not self._stop.is_set():
            sentence = self._rules.failed(device.name)
            if sentence is not None:
                self._display.message(sentence)
                self._stop.set()
        if device.state is State.FAILED:
            self._end_if_fail_fast(f"{device.name} has failed")

    def _end_if_fail_fast(self, why: str) -> None:
        if self._fail_fast and not self._stop.is_set():
            self._display.message(f"{why}: the run ends (--fail-fast)")
            self._stop.set()

    async def _stop_device(self, device: Device, how: str) -> None:
        """End a device whose time is over, in the middle of what it does; the others go on."""
        self._note_end(device, State.TIMED_OUT, how)
        self._engine.end_waits(device.name, NO, "its test action timed out", self._loop.time())
        await self._dispatcher.remove(device.name, f"was {how}")
        self._after_end(device)

    # What the group tells

    def result(self, case: Case, counts: Counts) -> None:
        """A result has come, or was in the log when it was opened: that is counted, and not shown again.

        Those of devices that are on other hosts are shown there.
        """
        device = self.devices.get(case.device)
        if device is None:
            return
        if device.attachment is not None:
            self._display.result(case, counts)
        if self._output is not None:
            self._output.note(case)
        word = Counts._fields[RESULTS.index(case.result)]
        device.counts = device.counts._replace(**{word: getattr(device.counts, word) + 1})
        if case.result == "fail":
            self._end_if_fail_fast(f"{case.device} has a failed result")

    def notice(self, device: str | None, sentence: str) -> None:
        """Something that an operator should see."""
        if device in self.devices:
            self._display.notice(device, sentence)
        else:
            self._display.message(sentence if device is None else f"{device} {sentence}")

    def turned(self, now: float) -> None:
        """What this turn of the loop brought has been carried out."""
        self._hangs.note(now)
        self._view.flush(now)
        self._set_timer()

    def broken(self, error: GroupLogError) -> None:
        """The run can't go on, and `run` raises this."""
        self._give_up(error)

    def output(self, device: str, data: bytes, now: float) -> None:
        """Write console output to the device's log, and show it."""
        if self._output is not None:
            self._output.add(device, data)
        for error in [] if self._logs is None else self._logs.write(device, data):
            self.log_failures.append(f"--log-dir: the end of a console log is missing: {told(error)}")
            self._display.notice(device, f"the log of this device ends here: {told(error)}", bad=True)
        self._display.output(device, data, now)

    # Time

    def _set_timer(self) -> None:
        sources = (self._display, self._hangs, self._view)
        times = [source.next_timeout() for source in sources]
        rules_due = None if self._rules is None else self._rules.next_timeout()
        times.append(None if rules_due is None else rules_due - self._engine.epoch)
        self._timer.set(min((time for time in times if time is not None), default=None))

    def _handle_timeout(self) -> None:
        now = self._loop.time()
        self._display.handle_timeout(now)
        for name, how in [] if self._rules is None else self._rules.expired(self._engine.epoch + now):
            device = self.devices.get(name)
            if device is not None and not device.over:
                self._stopping.add(self._loop.create_task(self._stop_device(device, how)))
        if self._hangs.handle_timeout(now, self._statuses):
            self._stop.set()
        self._group.wake()

    # What the devices do

    def _area(self, now: float, width: int, height: int) -> list[str]:
        left = None if self._time_is_over is None else self._time_is_over - now
        times = self._engine.epoch + now
        return area(self._statuses(), times, width, height, left, colour=self._view.colour)

    def _statuses(self) -> list[Status]:
        ended, failed, offline = {}, set(), {}
        for name, device in self.devices.items():
            cases = counted(device.counts.failed, _FAILURES["case"]) if device.counts.failed else ""
            if device.over:
                ended[name] = self._said(device, cases)
            if cases or not self._ended_well(device):
                failed.add(name)
            if device.attachment is not None and device.attachment.trouble:
                offline[name] = device.attachment.trouble
        return statuses(
            self.devices,
            self._engine.state.coordinator,
            ended=ended,
            counts={name: device.counts for name, device in self.devices.items()},
            failed=failed,
            offline=offline,
            stuck=self._hangs.stuck,
        )


@dataclass(frozen=True, slots=True)
class _Output:
    """What one device says, for the log and the display of the run."""

    run: TerminalRun
    device: str

    def output(self, data: bytes, now: float) -> None:
        self.run.output(self.device, data, now)

    def notice(self, sentence: str) -> None:
        self.run.notice(self.device, sentence)
