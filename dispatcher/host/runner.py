# SPDX-License-Identifier: MIT
"""The dispatcher at work: consoles, engine, logs and display, joined by an event loop.

    console --bytes--> engine --output--> console log, display
            <--lines--        --notices-> display

The same for simulated devices and real ones. All decisions are the engine's; this only
carries bytes and the time, and starts and ends things.
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher.consoles import Console
from dispatcher.consoles.processes import (
    become_subreaper,
    everything_below,
    kill_all,
    reap_orphans,
    send_signal,
)
from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.engine import Engine
from dispatcher.group.deadend import DeadEnd
from dispatcher.group.results import Counts
from dispatcher.group.wording import command, enumerated
from dispatcher.host.consolelog import ConsoleLogs
from dispatcher.host.deadwatch import Watch
from dispatcher.host.rules import JobRules
from dispatcher.host.stopsignals import STOP_SIGNALS
from dispatcher.view.display import Display, Row
from dispatcher.view.interactive import ConsoleDisplay
from dispatcher.view.statusview import LiveView, Plain, Silence, Status, area, statuses, summary
from toolkit.wire.vocabulary import RESULTS

# How often the same dead end may come again before a run that is to end is ended.
MAX_REPEATS = 10


@dataclass(slots=True, eq=False)
class Device:
    """A device of the run, and how it got on."""

    name: str
    role: str
    console: Console
    started: float = 0.0
    ended: float | None = None
    status: int | None = None  # 0, an exit status, or a signal's number made negative; None: it has not ended
    result: str = "not started"
    interactive: bool = False  # somebody works in it: its status means nothing
    dead_ends: int = 0  # in which waits of it failed


class Runner:
    """One run of a group of devices. `devices` hold the results afterwards."""

    def __init__(
        self,
        devices: Sequence[Device],
        engine: Engine,
        display: Display,
        logs: ConsoleLogs | None,
        view: Plain | LiveView,
        *,
        must_end: bool,
        rules: JobRules | None = None,
        watch: Watch | None = None,
    ) -> None:
        """
        :param watch: looks for dead ends.
        :param must_end: whether devices are to come to an end by themselves, and successfully.
        :param rules: when devices of a job are stopped; in the time of the log.
        :param view: what the display writes to. Raises BrokenPipeError when nobody looks.
        """
        self.devices = {device.name: device for device in devices}
        self.stopped_by: signal.Signals | None = None
        self.timed_out = False
        self.log_failed = False
        self.left = False  # somebody who works interactively has had enough
        self._engine = engine
        self._display = display
        self._logs = logs
        self._view = view
        self._must_end = must_end
        self._rules = rules
        self._stopping: set[asyncio.Task[None]] = set()
        self._watch = watch
        self._dead_end: object = None  # the last one: who waits for what
        self._repeated = 0
        self._stuck: frozenset[bytes] = frozenset()
        self._counts: dict[str, Counts] = {}
        self._silence = Silence()
        self._time_is_over: float | None = None
        self._failure: BaseException | None = None
        self._pumping = False
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, timeout: float | None = None) -> None:
        """Start all devices; return when all have ended, the time is over or a signal came, and all is tidy.

        Raises ConsoleError if a console can't be opened; everything is ended then, too. The process must
        have no other use: its signals are taken over, and at the end all its descendants are killed.
        """
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._watch_signals()
        become_subreaper()
        try:
            # All join before the first one starts: none may find itself alone in its group.
            for device in self.devices.values():
                position = 0 if self._logs is None else self._logs.size(device.name)
                self._engine.join(device.name, device.role, self._loop.time(), position)
            if timeout is not None:
                self._time_is_over = self._loop.time() + timeout
                self._loop.call_later(timeout, self._time_out, timeout)
            if isinstance(self._view, LiveView):
                self._view.show(self._area)
            await self._start()
            if isinstance(self._display, ConsoleDisplay):
                consoles = {device.name: device.console for device in self.devices.values()}
                await self._display.open(consoles, self._quit)
            await self._stop.wait()
        finally:
            await self._tidy_up()
        if self._failure is not None:
            raise self._failure

    def rows(self) -> list[Row]:
        """The table of the devices, after the run."""
        return [
            Row(
                device.name,
                device.role,
                device.result + (", after a dead end" if device.dead_ends else ""),
                not device.dead_ends
                and (
                    (device.interactive and not self.timed_out)
                    or device.status == 0
                    or (device.status is None and (self.left or not self._must_end))
                ),
                0.0 if device.ended is None else device.ended - device.started,
            )
            for device in self.devices.values()
        ]

    # Starting and ending

    async def _start(self) -> None:
        for device in self.devices.values():
            if self._stop.is_set():
                return
            device.started = self._loop.time()
            await device.console.start(_Ears(self, device))
            device.result = "running" if self._must_end else "connected"

    def _watch_signals(self) -> None:
        self._loop.set_exception_handler(self._fail)
        for number in STOP_SIGNALS:
            # nohup has one ignored, and is to have its way.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._loop.add_signal_handler(number, self._stop_by, number)
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        if isinstance(self._view, LiveView):
            self._loop.add_signal_handler(signal.SIGWINCH, self._pump)
            self._loop.add_signal_handler(signal.SIGTSTP, self._suspend, self._view)

    def _suspend(self, view: LiveView) -> None:
        """Ctrl-Z: the shell gets a clean screen, and we are stopped here until it lets us go on."""
        view.hide()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._pump()

    def _quit(self) -> None:
        self.left = True
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
        if isinstance(error, BrokenPipeError):
            self.stopped_by = self.stopped_by or signal.SIGPIPE
        elif self._failure is None:
            self._failure = (
                error if isinstance(error, BaseException) else RuntimeError(str(context["message"]))
            )
        self._stop.set()

    def _time_out(self, seconds: float) -> None:
        self.timed_out = True
        self._pump()
        self._display.message(f"the time is over: {seconds:g} s")
        waits: dict[str, list[str]] = {}
        for wait in self._engine.coordinator.open_waits():
            sentence = f"waits in {command(wait.waiting)} for {enumerated(wait.missing or ['nobody'])}"
            waits.setdefault(wait.waiting.device, []).append(sentence)
        for device in self.devices.values():
            if device.ended is None:
                what = ", and ".join(waits.get(device.name, ["waits for no other device"]))
                self._display.notice(device.name, f"is still running, and {what}")
        self._stop.set()

    def _meet(self, dead_end: DeadEnd, now: float) -> None:
        """Tell of a dead end, and let its waits fail if they are to."""
        waits = {(wait.device, wait.kind, wait.message_id, wait.role) for wait in dead_end.waits}
        self._repeated = self._repeated + 1 if waits == self._dead_end else 0
        self._dead_end = waits
        for sentence in dead_end.sentences if not self._repeated else ["the same dead end again"]:
            self._display.message(sentence)
        assert self._watch is not None
        if not self._watch.fails:
            self._stuck = frozenset(wait.request for wait in dead_end.waits)
            return
        for name in dead_end.devices:
            self.devices[name].dead_ends += 1
        self._engine.fail(dead_end, now)
        if self._must_end and self._repeated == MAX_REPEATS:
            # A script that tries again and again, as in `until lava-wait x; do :; done`.
            self._display.message("the scripts do not get out of it: the run ends")
            self._stop.set()

    async def _tidy_up(self) -> None:
        if isinstance(self._display, ConsoleDisplay):
            await self._display.close()
        closings = [*self._stopping, *(self._close(device) for device in self.devices.values())]
        for outcome in await asyncio.gather(*closings, return_exceptions=True):
            self._failure = self._failure or outcome
        # Also those that have shed all marks, and become our children when their parents ended.
        stuck = await kill_all(everything_below)
        if stuck:
            self._display.message(f"these processes could not be ended: {', '.join(map(str, stuck))}")
        self._reap()
        if self._failure is None:
            self._pump()
        if self._timer is not None:
            self._timer.cancel()
        if self._logs is not None:
            self._logs.close()

    async def _close(self, device: Device) -> None:
        await device.console.close()
        if device.ended is None and device.started:
            device.ended = self._loop.time()
            self._engine.close(device.name, device.ended)
            if self._must_end:
                device.result = "stopped at the time-out" if self.timed_out else "stopped"

    def _reap(self) -> None:
        consoles = [device.console for device in self.devices.values()]
        reap_orphans([console.pid for console in consoles if isinstance(console, PtyProcess)])

    # What the consoles tell

    def receive(self, device: Device, data: bytes) -> None:
        """Bytes came from a console."""
        self._engine.receive_data(device.name, data, self._loop.time())
        if not self._pumping:
            # Not at once: what several consoles bring in one turn of the loop is carried on in one go.
            self._pumping = True
            self._loop.call_soon(self._pump)

    def interrupt(self, device: Device, sentence: str) -> None:
        """A console is gone for a while, or back again."""
        device.result = sentence
        self._engine.close(device.name, self._loop.time())
        self._pump()
        self._display.notice(device.name, sentence)
        self._pump()

    def end(self, device: Device, reason: str, status: int) -> None:
        """A console is over."""
        if device.ended is not None:
            # It was being stopped.
            return
        device.ended = self._loop.time()
        device.status = status
        device.result = "succeeded" if status == 0 else reason
        self._engine.close(device.name, device.ended)
        self._pump()
        self._display.notice(device.name, reason)
        self._leave(device, reason)

    def _leave(self, device: Device, reason: str) -> None:
        self._engine.leave(device.name, reason, self._loop.time())
        self._pump()
        self._reap()
        if all(device.ended is not None for device in self.devices.values()):
            self._stop.set()
        elif self._rules is not None and device.status != 0 and not self._stop.is_set():
            sentence = self._rules.failed(device.name)
            if sentence is not None:
                self._display.message(sentence)
                self._stop.set()

    async def _stop_device(self, device: Device, result: str) -> None:
        """End a device in the middle of what it does; the others go on."""
        device.ended, device.result = self._loop.time(), result
        self._display.notice(device.name, result)
        await device.console.close()
        self._engine.close(device.name, self._loop.time())
        self._pump()
        self._leave(device, f"was {result}")

    # Carrying things on

    def _pump(self) -> None:
        self._pumping = False
        now = self._loop.time()
        for name, data in self._engine.outputs():
            self._log(name, data)
            self._display.output(name, data, now)
        for name, data in self._engine.data_to_type():
            self.devices[name].console.write(data)
        for case, counts in self._engine.new_results():
            self._display.result(case, counts)
            of_device = self._counts.get(case.device, Counts())
            word = Counts._fields[RESULTS.index(case.result)]
            self._counts[case.device] = of_device._replace(**{word: getattr(of_device, word) + 1})
        for name, sentence in self._engine.notices():
            self._display.notice(name, sentence)
        if self._watch is not None:
            self._watch.note(now)
        self._view.flush(now)
        self._set_timer()

    def _log(self, name: str, data: bytes) -> None:
        if self._logs is None:
            return
        try:
            self._logs.write(name, data)
        except OSError as error:
            self.log_failed = True
            self._display.notice(name, f"the log of this device ends here: {error}")

    def _set_timer(self) -> None:
        sources = (self._engine, self._display, self._watch, self._view)
        times = [
            time for source in sources if source is not None and (time := source.next_timeout()) is not None
        ]
        rules_due = None if self._rules is None else self._rules.next_timeout()
        if rules_due is not None:
            times.append(rules_due - self._engine.epoch)
        if (due := self._silence_due()) is not None:
            times.append(due)
        if not times:
            return
        # One that goes off too early does no harm, so it is only replaced by an earlier one.
        if self._timer is not None:
            if self._timer.when() <= min(times):
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(min(times), self._handle_timeout)

    def _handle_timeout(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._engine.handle_timeout(now)
        self._display.handle_timeout(now)
        for name, result in [] if self._rules is None else self._rules.expired(self._engine.epoch + now):
            if self.devices[name].ended is None:
                task = self._loop.create_task(self._stop_device(self.devices[name], result))
                self._stopping.add(task)
        if self._watch is not None and (dead_end := self._watch.handle_timeout(now)) is not None:
            self._meet(dead_end, now)
        due = self._silence_due()
        if due is not None and now >= due:
            self._display.message(
                summary(self._statuses(), self._engine.epoch + now, now - self._engine.heard)
            )
            self._silence.told(now)
        self._pump()

    # What the devices do

    def _silence_due(self) -> float | None:
        if self._view.live or isinstance(self._display, ConsoleDisplay):
            return None
        return self._silence.next_timeout(self._engine.heard, self._engine.coordinator.anybody_waits)

    def _area(self, now: float, width: int, height: int) -> list[str]:
        left = None if self._time_is_over is None else self._time_is_over - now
        return area(self._statuses(), self._engine.epoch + now, width, height, left)

    def _statuses(self) -> list[Status]:
        ended = {device.name: device.result for device in self.devices.values() if device.ended is not None}
        return statuses(
            self.devices, self._engine.coordinator, ended=ended, counts=self._counts, stuck=self._stuck
        )


@dataclass(frozen=True, slots=True)
class _Ears:
    """Listens to the console of one device."""

    runner: Runner
    device: Device

    def received(self, data: bytes) -> None:
        self.runner.receive(self.device, data)

    def dropped(self, reason: str) -> None:
        self.runner.interrupt(self.device, f"connection lost ({reason}); trying again")

    def restored(self) -> None:
        self.runner.interrupt(self.device, "connected again")

    def ended(self, reason: str, status: int) -> None:
        self.runner.end(self.device, reason, status)
