# SPDX-License-Identifier: MIT
"""A pty in the event loop: what comes out of it is received, what is typed goes in, at a line's speed if it has one."""

import asyncio
import fcntl
import os
import sys
import termios
import time
import tty
from dataclasses import dataclass
from typing import Any

from dispatcher.consoles import Listener
from dispatcher.consoles.pacer import Pacer

# The kernel gives a reader of a pty at most this many bytes at once.
_READ_SIZE = 4095
# Passed on at once at most.
_BATCH_SIZE = 16 * _READ_SIZE
# Bytes waiting to be typed; a device that does not read its console gets no more than that.
_TYPE_LIMIT = 256 * 1024
# At the end nothing should be left that writes. This bounds what something unkillable adds.
_DRAIN_LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """How a pty begins.

    :param echo: whether the pty echoes what is typed. If not, it begins with echo all the same, as a program such
        as ssh hands its modes on to the device; that is turned off before anything is typed, if the command
        has not done so until then, as those do.
    :param modes: as from `termios.tcgetattr`; None: those of every terminal.
    :param raw: whether in raw mode: bytes go through as they are.
    :param baud: both directions take the time of a serial line of this speed; None: as fast as it goes.
    """

    echo: bool = True
    modes: list[Any] | None = None
    raw: bool = False
    baud: int | None = None


class PseudoTerminal:
    """A pty. Call `open`, once, and `close` at the end.

    :param size: rows and columns that it begins with; None: it has no size, as a serial line.
    """

    def __init__(self, settings: Settings, size: tuple[int, int] | None) -> None:
        self._settings = settings
        self._size = size
        baud = settings.baud
        self._from_device = None if baud is None else Pacer(baud)
        self._to_device = None if baud is None else Pacer(baud)
        self._to_type = bytearray()
        self._master: int | None = None
        self._slave: int | None = None
        self._receive_timer: asyncio.TimerHandle | None = None
        self._type_timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._refused = False  # a `write` was, since when not all was written
        self._to_silence = not settings.echo  # once something is typed

    def open(self, listener: Listener) -> None:
        """Make it. Raises OSError; call `close` then, too. Nothing is received before `listen`."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._master, self._slave = os.openpty()
        os.set_blocking(self._master, False)
        self._set_modes(self._slave)

    @property
    def is_open(self) -> bool:
        """Whether there is a pty."""
        return self._master is not None

    @property
    def slave(self) -> int:
        """The end of the command; it has to be open."""
        assert self._slave is not None
        return self._slave

    def resize(self, rows: int, columns: int) -> None:
        """Tell the command how large the terminal is, now or once it is open."""
        self._size = rows, columns
        if self._master is not None:
            termios.tcsetwinsize(self._master, (rows, columns))

    def reset(self) -> None:
        """What was typed is lost, and the modes are those of the beginning."""
        self._to_type.clear()
        termios.tcflush(self.slave, termios.TCIOFLUSH)
        termios.tcsetattr(self.slave, termios.TCSANOW, self._modes)

    def close(self) -> None:
        """Hang up; may be called whenever."""
        for timer in (self._receive_timer, self._type_timer):
            if timer is not None:
                timer.cancel()
        self._to_type.clear()
        if self._master is not None:
            self._loop.remove_reader(self._master)
            self._loop.remove_writer(self._master)
            os.close(self._master)
            self._master = None
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None

    def _set_modes(self, slave: int) -> None:
        settings = self._settings
        if settings.raw:
            tty.setraw(slave, termios.TCSANOW)
        modes = termios.tcgetattr(slave) if settings.modes is None else list(settings.modes)
        if self._size is not None:
            termios.tcsetwinsize(slave, self._size)
        if settings.baud is not None:
            modes[4] = modes[5] = _speed_constant(settings.baud)
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        self._modes = termios.tcgetattr(slave)

    # Receiving

    def pause(self) -> None:
        """Read nothing for now: the command has to wait when the pty is full."""
        self._paused = True
        if self._receive_timer is not None:
            self._receive_timer.cancel()
        if self._master is not None:
            self._loop.remove_reader(self._master)

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            self.listen()

    def listen(self) -> None:
        """Read whenever there is something, but for pauses."""
        if self._master is not None and not self._paused:
            self._loop.add_reader(self._master, self._readable)

    def drain(self) -> None:
        """Receive what is still there."""
        # A read may bring less than there is, so only one that brings nothing is the last.
        drained = 0
        while drained < _DRAIN_LIMIT and (data := self._read(_BATCH_SIZE)):
            self._listener.received(data)
            drained += len(data)

    def _readable(self) -> None:
        assert self._master is not None
        if self._from_device is not None:
            self._loop.remove_reader(self._master)
            self._from_device.begin(time.monotonic())
            self._receive_timer = self._loop.call_later(self._from_device.pause, self._receive_paced)
        elif data := self._read(_BATCH_SIZE):
            self._listener.received(data)

    def _receive_paced(self) -> None:
        assert self._from_device is not None and self._master is not None
        allowance = self._from_device.allowance(time.monotonic())
        data = self._read(min(allowance, _BATCH_SIZE))
        self._from_device.take(len(data))
        if data:
            self._listener.received(data)
        if len(data) < allowance:
            self.listen()
        elif not self._paused:
            self._receive_timer = self._loop.call_later(self._from_device.pause, self._receive_paced)

    def _read(self, limit: int) -> bytes:
        """What is there, at most `limit` bytes."""
        assert self._master is not None
        data = bytearray()
        while len(data) < limit:
            wanted = min(_READ_SIZE, limit - len(data))
            try:
                piece = os.read(self._master, wanted)
            except BlockingIOError:
                break
            except OSError:
                # Nothing comes any more, for good, as our own end of the tty is open.
                self._loop.remove_reader(self._master)
                break
            data += piece
            if len(piece) < wanted:
                break
        return bytes(data)

    # Typing

    def write(self, data: bytes) -> bool:
        """Type bytes; False if it is not open, or too many wait already: `Listener.drained` follows then."""
        if self._master is None:
            return False
        # Where none wait, `drained` would never follow.
        if self._to_type and len(self._to_type) + len(data) > _TYPE_LIMIT:
            self._refused = True
            return False
        busy = bool(self._to_type)
        self._to_type += data
        if busy:
            return True
        if self._to_device is None:
            self._type()
        else:
            self._to_device.begin(time.monotonic())
            self._type_timer = self._loop.call_later(self._to_device.pause, self._type_paced)
        return True

    @property
    def unread(self) -> int:
        """Bytes that were typed, and that the command has not read."""
        in_the_tty = fcntl.ioctl(self.slave, termios.FIONREAD, bytes(4))
        return len(self._to_type) + int.from_bytes(in_the_tty, sys.byteorder)

    def _type(self) -> None:
        assert self._master is not None
        self._type_some(len(self._to_type))
        if self._to_type:
            self._loop.add_writer(self._master, self._type)
        else:
            self._loop.remove_writer(self._master)

    def _type_paced(self) -> None:
        assert self._to_device is not None
        now = time.monotonic()
        allowance = self._to_device.allowance(now)
        count = self._type_some(allowance)
        self._to_device.take(count)
        if count < allowance:
            # The device did not take more: time that the line stood still, and will not make up for.
            self._to_device.begin(now)
        if self._to_type:
            self._type_timer = self._loop.call_later(self._to_device.pause, self._type_paced)

    def _type_some(self, limit: int) -> int:
        assert self._master is not None
        if self._to_silence:
            self._silence()
        try:
            count = os.write(self._master, self._to_type[:limit])
        except BlockingIOError:
            count = 0
        except OSError:
            # Hung up: nobody is there to read any of it.
            count = len(self._to_type)
        del self._to_type[:count]
        if self._refused and not self._to_type:
            self._refused = False
            self._loop.call_soon(self._listener.drained)
        return count

    def _silence(self) -> None:
        """Turn the echo off, or leave it to the command if that has done so."""
        modes = termios.tcgetattr(self.slave)
        if modes[3] & termios.ECHO:
            modes[3] &= ~termios.ECHO
            termios.tcsetattr(self.slave, termios.TCSANOW, modes)
            self._to_silence = False
        else:
            # In canonical mode it asks for a password, and sets other modes afterwards.
            self._to_silence = bool(modes[3] & termios.ICANON)


def _speed_constant(baud: int) -> int:
    """The standard speed that is nearest below; commands on the device take their time-outs from it."""
    speeds = {
        int(name[1:]): constant
        for name, constant in vars(termios).items()
        if name.startswith("B") and name[1:].isdecimal() and name != "B0"
    }
    return int(speeds[max((speed for speed in speeds if speed <= baud), default=min(speeds))])
