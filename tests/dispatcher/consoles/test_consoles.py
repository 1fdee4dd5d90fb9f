# SPDX-License-Identifier: MIT
"""Consoles: commands on ptys, serial ports, sockets; how they end, drop and come back."""

import asyncio
import contextlib
import os
import pty
import socket
import subprocess
import tempfile
import termios
import threading
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import serial
import serial.rfc2217

from dispatcher.consoles import Console, ConsoleError, processes
from dispatcher.consoles.opening import open_console
from dispatcher.consoles.pacer import Pacer
from dispatcher.consoles.processes import become_subreaper, everything_below, process_table, reap_orphans
from dispatcher.consoles.pseudoterminal import Settings
from dispatcher.consoles.ptyprocess import PtyProcess, ending_in_words
from dispatcher.consoles.serialport import SerialPort
from tests.dispatcher.grouplog.natsserver import end_common

# Seconds that anything may take; only a failure takes so long.
PATIENCE = 30


class Recorder:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.console: Console
        self.data = b""
        self.chunks: list[bytes] = []
        self.events: list[str] = []
        self._changed = asyncio.Event()

    def received(self, data: bytes) -> None:
        assert data
        self.data += data
        self.chunks.append(data)
        self._changed.set()

    def drained(self) -> None:
        self._add("drained")

    def lost(self, reason: str) -> None:
        self._add(f"lost: {reason}")

    def rebooted(self) -> None:
        self._add("rebooted")

    def ended(self, reason: str, status: int) -> None:
        self._add(f"{reason}, {status}")

    def _add(self, event: str) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_data(self, text: bytes) -> None:
        await self.until(lambda: text in self.data)

    async def until_events(self, count: int) -> None:
        await self.until(lambda: len(self.events) >= count)


@asynccontextmanager
async def started(console: Console) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    recorder.console = console
    await console.open(recorder)
    try:
        yield recorder
    finally:
        await console.close()


def shell(command: str, baud: int | None = None) -> PtyProcess:
    return PtyProcess(
        "test", ["/bin/sh", "-c", command], settings=Settings(baud=baud), tty_variable="CONSOLE"
    )


@pytest.fixture(autouse=True)
def adopted() -> Iterator[None]:
    """Orphans of what is started here come to this process, as in a run."""
    end_common()
    become_subreaper()
    yield
    reap_orphans([])
    assert everything_below() == []


# Commands on ptys


def test_command_has_the_pty_for_its_terminal() -> None:
    async def body() -> None:
        async with started(
            shell('tty; echo "$CONSOLE"; echo controlling >/dev/tty; ps -o sid= -p $$; echo $$')
        ) as it:
            await it.until_events(1)
        path, variable, controlling, session, process = it.data.split()
        assert path == variable
        assert path.startswith(b"/dev/pts/")
        assert controlling == b"controlling"
        assert session == process
        assert it.events == ["ended with status 0, 0"]

    asyncio.run(body())


@pytest.mark.parametrize(
    ("command", "reason", "status"),
    [
        ("exit 3", "ended with status 3", 3),
        ("kill -KILL $$", "was killed by SIGKILL", -9),
        ("nosuchcommand", "ended with status 127 (not found)", 127),
        ("sh -c 'kill -TERM $$'; exit $?", "ended with status 143 (SIGTERM)", 143),
    ],
)
def test_command_ends(command: str, reason: str, status: int) -> None:
    async def body() -> None:
        async with started(shell(command)) as it:
            await it.until_events(1)
        assert it.events == [f"{reason}, {status}"]

    asyncio.run(body())


def test_status_in_words_that_is_no_signal() -> None:
    assert ending_in_words(126) == "ended with status 126 (can't be executed)"
    assert ending_in_words(255) == "ended with status 255"


def test_all_output_comes_before_the_end() -> None:
    # More than a pty holds.
    async def body() -> None:
        async with started(shell("seq 1 100000")) as it:
            await it.until_events(1)
        assert it.data == b"".join(b"%d\r\n" % number for number in range(1, 100001))

    asyncio.run(body())


def test_what_is_typed_is_read() -> None:
    async def body() -> None:
        console = open_console('exec:stty sane -echo; echo ready; read line; echo "<$line>"', 0)
        async with started(console) as it:
            await it.until_data(b"ready")
            console.write(b"hello\n")
            await it.until_data(b"<hello>")
            await it.until_events(1)

    asyncio.run(body())


def test_command_that_reads_again_has_room() -> None:
    async def body() -> None:
        with tempfile.TemporaryDirectory() as folder:
            gate = f"{folder}/gate"
            os.mkfifo(gate)
            console = shell(f"stty raw -echo; echo ready; read -r line <{gate}; exec cat >/dev/null")
            async with started(console) as it:
                await it.until_data(b"ready")
                while console.write(b"x" * 1000):
                    pass
                assert it.events == []
                with open(gate, "w") as file:
                    file.write("go\n")
                await it.until_events(1)
                assert it.events == ["drained"]
                assert console.write(b"there is room again")

    asyncio.run(body())


def test_paused_console_receives_nothing_until_it_goes_on() -> None:
    async def body() -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "written")
            console = shell(f"stty raw; seq 100000; echo all >{file}; echo end; sleep 1000")
            recorder = Recorder()
            console.pause()
            await console.open(recorder)
            try:
                # The command is held up in the middle of its output: the pty is full.
                await asyncio.to_thread(_wait_until_blocked, console.pid)
                assert recorder.data == b""
                assert not file.exists()
                console.resume()
                await recorder.until_data(b"end\n")
            finally:
                await console.close()

    asyncio.run(body())


def _wait_until_blocked(pid: int | None) -> None:
    """Wait until a process of the command sleeps in a write to its terminal."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for child in children.read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/wchan").read_text() in ("n_tty_write", "tty_write", "wait_woken"):
                    return
        time.sleep(0.01)
    raise AssertionError("the command goes on")


def test_exec_console_has_normal_modes() -> None:
    """A program such as ssh hands them on to the device: without echo, nobody would see there what they type."""

    async def body() -> None:
        async with started(open_console("exec:stty -a", 0)) as it:
            await it.until_events(1)
        words = it.data.split()
        assert {b"icanon", b"isig", b"onlcr", b"echo"} <= set(words)

    asyncio.run(body())


def test_exec_console_echoes_nothing_of_its_own() -> None:
    async def body() -> None:
        console = open_console(
            "exec:stty -echo; echo hidden; read x; stty echo; echo ready; read x; stty -a", 0
        )
        async with started(console) as it:
            await it.until_data(b"hidden")
            console.write(b"secret\n")
            await it.until_data(b"ready")
            console.write(b"typed\n")
            await it.until_events(1)
        assert b"-echo" in it.data.split()
        assert b"secret" not in it.data and b"typed" not in it.data

    asyncio.run(body())


def test_exec_console_leaves_the_echo_to_a_command_that_turns_it_on_and_off() -> None:
    """As a shell with a line editor does."""

    async def body() -> None:
        console = open_console(
            "exec:a=$(stty -g); stty raw -echo; echo ready; head -c 1; stty $a; stty -a", 0
        )
        async with started(console) as it:
            await it.until_data(b"ready")
            console.write(b"x")
            await it.until_events(1)
        assert b"echo" in it.data.split()

    asyncio.run(body())


def test_exec_console_that_is_set_raw_changes_nothing_on_the_way() -> None:
    every_byte = bytes(range(256))

    async def body() -> None:
        console = open_console(
            r"exec:stty raw; printf 'ready\n'; head -c 256 | od -An -v -tu1; printf '\n\000\377\r'", 0
        )
        async with started(console) as it:
            await it.until_data(b"ready\n")
            console.write(every_byte)
            await it.until_events(1)
        numbers = it.data.removeprefix(b"ready\n").removesuffix(b"\n\0\xff\r").split()
        assert bytes(map(int, numbers)) == every_byte

    asyncio.run(body())


def test_left_over_processes_are_killed() -> None:
    # One that ignores hangups, one in a session of its own that holds the pty, one that ignores all.
    leave = "(trap '' HUP; sleep 1000) & setsid sleep 1000 & (trap '' HUP TERM INT; setsid sleep 1000) &"

    async def body() -> None:
        async with started(shell(f"{leave} sleep 0.1; echo done")) as it:
            await it.until_events(1)
            assert everything_below() == []
        assert it.data == b"done\r\n"
        assert it.events == ["ended with status 0, 0"]

    asyncio.run(body())


def test_many_consoles_share_one_look_at_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take long where there are many, and all end at once."""
    looks = 0

    def counted() -> list[processes.Process]:
        nonlocal looks
        looks += 1
        return process_table()

    monkeypatch.setattr(processes, "process_table", counted)

    async def body() -> None:
        consoles = [shell("trap '' TERM; setsid sleep 1000 & echo ready; sleep 1000") for _ in range(20)]
        recorders = [Recorder() for _ in consoles]
        for console, recorder in zip(consoles, recorders, strict=True):
            await console.open(recorder)
        for recorder in recorders:
            await recorder.until_data(b"ready")
        await asyncio.gather(*(console.close() for console in consoles))
        assert everything_below() == []

    asyncio.run(body())
    # Each console has to look twice: there is something, there is nothing more.
    assert looks < 20


def test_close_ends_the_command() -> None:
    async def body() -> None:
        async with started(shell("trap 'echo bye; exit 1' TERM; setsid sleep 1000 & echo ready; wait")) as it:
            await it.until_data(b"ready")
        assert b"bye" in it.data
        assert it.events == []
        assert everything_below() == []

    asyncio.run(body())


def test_close_ends_a_command_that_does_not_want_to() -> None:
    async def body() -> None:
        async with started(shell("trap '' TERM HUP INT; echo ready; while :; do sleep 1000; done")) as it:
            await it.until_data(b"ready")
        assert everything_below() == []

    asyncio.run(body())


def test_close_ends_a_stopped_command() -> None:
    async def body() -> None:
        async with started(shell("echo ready; kill -STOP $$")) as it:
            await it.until_data(b"ready")
        assert everything_below() == []

    asyncio.run(body())


def test_close_of_a_console_that_was_not_started_or_has_ended() -> None:
    async def body() -> None:
        console = shell("true")
        await console.close()
        async with started(console) as it:
            await it.until_events(1)
            console.write(b"too late")
        await console.close()

    asyncio.run(body())


def test_tty_that_is_hung_up_and_opened_again() -> None:
    hang_up = "import ctypes; ctypes.CDLL(None).vhangup()"
    again = (
        f"""trap '' HUP; python3 -c '{hang_up}'; exec >"$CONSOLE" 2>&1 <"$CONSOLE"; echo again; sleep 1000"""
    )

    async def body() -> None:
        async with started(shell(again)) as it:
            await it.until_data(b"again\r\n")

    if os.geteuid() != 0:
        pytest.skip("only root may hang up a terminal")
    asyncio.run(body())


def test_command_that_can_not_be_started() -> None:
    async def body() -> None:
        console = PtyProcess("test", ["true"], directory="/nonexistent")
        with pytest.raises(ConsoleError, match=r"test: can't start the command: .*nonexistent"):
            await console.open(Recorder())
        await console.close()

    asyncio.run(body())


def test_exec_without_a_command() -> None:
    with pytest.raises(ConsoleError, match="the command is missing"):
        open_console("exec: ", 0)


# The speed of a line


def test_pacer() -> None:
    pacer = Pacer(9600)  # 960 bytes a second
    pacer.begin(100.0)
    assert pacer.allowance(100.0) == 0
    assert pacer.allowance(100.5) == 480
    pacer.take(480)
    assert pacer.allowance(100.5) == 0
    # Time that the line was busy and nobody looked is not lost.
    assert pacer.allowance(101.0) == 480
    # Time that it was idle is.
    pacer.begin(110.0)
    assert pacer.allowance(110.0) == 0
    pacer.begin(109.0)
    assert pacer.allowance(109.5) == 0


def test_slow_line_carries_the_same_bytes_in_small_pieces() -> None:
    # Each reads what is there, and says how much.
    read_twice = "for n in 1 2; do dd bs=1000 count=1 2>/dev/null | wc -c; done"

    async def body() -> None:
        text = b"sixty bytes, which take a second, at sixty bytes in a second"
        async with started(
            shell(f"stty raw -echo; stty; printf '{text.decode()}'; sleep 1000", baud=600)
        ) as it:
            await it.until_data(text)
        assert b"speed 600 baud" in it.data
        pieces = [piece for piece in it.chunks if piece in text]
        assert len(pieces) >= 3

        console = shell(f"stty raw -echo; printf ready; {read_twice}", baud=600)
        async with started(console) as it:
            await it.until_data(b"ready")
            console.write(text)
            await it.until_events(1)
        first, second = it.data.removeprefix(b"ready").split()
        assert int(first) + int(second) < len(text)

    asyncio.run(body())


def test_speed_that_no_terminal_knows() -> None:
    # The nearest one below counts.
    async def body() -> None:
        async with started(shell("stty", baud=12345)) as it:
            await it.until_events(1)
        assert b"speed 9600 baud" in it.data

    asyncio.run(body())


# Serial ports


@contextmanager
def pty_pair() -> Iterator[tuple[int, str]]:
    """A raw pty: the descriptor of one end, and the name of the other."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    try:
        yield master, path
    finally:
        os.close(slave)
        with contextlib.suppress(OSError):
            os.close(master)


def test_serial_port() -> None:
    async def body() -> None:
        with pty_pair() as (other_end, path):
            console = open_console(path, 9600)
            async with started(console) as it:
                assert termios.tcgetattr(other_end)[4:6] == [termios.B9600, termios.B9600]
                os.write(other_end, b"from the device")
                await it.until_data(b"from the device")
                console.write(b"to the device")
                assert await asyncio.to_thread(os.read, other_end, 100) == b"to the device"
            assert it.events == []

    asyncio.run(body())


def test_serial_port_that_goes_away() -> None:
    async def body() -> None:
        with pty_pair() as (other_end, path):
            async with started(SerialPort(path, 9600)) as it:
                os.close(other_end)
                await it.until_events(1)
            assert it.events[0].startswith("lost: ")

    asyncio.run(body())


def test_serial_port_that_another_program_has_open() -> None:
    async def body(path: str) -> None:
        console = SerialPort(path, 9600)
        with pytest.raises(ConsoleError, match=f"{path}: .*another program has it open"):
            await console.open(Recorder())
        await console.close()

    with pty_pair() as (_, path), serial.Serial(path, exclusive=True):
        asyncio.run(body(path))


@pytest.mark.parametrize(
    "address",
    ["/dev/nonexistent", "socket://localhost:1", "rfc2217://localhost:1"],
)
def test_port_that_can_not_be_opened(address: str) -> None:
    async def body() -> None:
        console = open_console(address, 9600)
        with pytest.raises(ConsoleError, match=f"^{address}: "):
            await console.open(Recorder())
        await console.close()

    asyncio.run(body())


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("socket://nowhere", "socket://HOST:PORT"),
        ("socket://:7001", "socket://HOST:PORT"),
        ("socket://host:port", "socket://HOST:PORT"),
        ("rfc2217://nowhere", "rfc2217://HOST:PORT"),
        ("telnet://localhost:7001", "exec:telnet HOST"),
        ("nosuch://x", "exec:COMMAND"),
        ("/dev/null", "/dev/ttyUSB0"),
        ("/", "/dev/ttyUSB0"),
        ("ttyUSB0", "/dev/ttyUSB0"),
        ("EXEC:true", "exec:COMMAND"),
        ("socket://host:0", "from 1 to 65535"),
        ("socket://::1:7001", r"socket://\[ADDRESS\]:PORT"),
    ],
)
def test_address_that_can_be_none(address: str, advice: str) -> None:
    with pytest.raises(ConsoleError, match=f"^{address}: .*{advice}"):
        open_console(address, 9600)


def test_port_without_a_file_descriptor() -> None:
    async def body() -> None:
        console = open_console("loop://", 115200)
        async with started(console) as it:
            console.write(b"comes back")
            await it.until_data(b"comes back")

    asyncio.run(body())


# Sockets


def listen(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), reuse_port=True)


async def accept(listener: socket.socket) -> socket.socket:
    connection, _ = await asyncio.wait_for(asyncio.to_thread(listener.accept), PATIENCE)
    return connection


def test_socket() -> None:
    async def body() -> None:
        with listen() as listener:
            console = open_console(f"socket://127.0.0.1:{listener.getsockname()[1]}", 0)
            async with started(console) as it:
                with await accept(listener) as device:
                    data = bytes(range(256)) * 1000
                    await asyncio.to_thread(device.sendall, data)
                    await it.until(lambda: len(it.data) == len(data))
                    assert it.data == data
                    console.write(b"to the device")
                    assert await asyncio.to_thread(device.recv, 100) == b"to the device"

    asyncio.run(body())


@pytest.mark.parametrize("kind", ["socket", "terminal"])
def test_a_port_that_takes_nothing_refuses_and_says_when_it_takes_again(kind: str) -> None:
    async def body(address: str, read: Callable[[int], bytes]) -> None:
        async with started(SerialPort(address, 9600)) as it:
            console = it.console
            given = 0
            while console.write(b"x" * 10_000):
                given += 10_000
                assert given < 100_000_000
            assert it.events == []
            got = 0
            while got < given:
                got += len(await asyncio.to_thread(read, 65536))
            await it.until_events(1)
            assert it.events == ["drained"] and got == given
            assert console.write(b"more")

    if kind == "socket":
        with listen() as listener:
            connections: list[socket.socket] = []

            def read(size: int) -> bytes:
                if not connections:
                    connections.append(listener.accept()[0])
                return connections[0].recv(size)

            asyncio.run(body(f"socket://127.0.0.1:{listener.getsockname()[1]}", read))
            connections[0].close()
    else:
        with pty_pair() as (master, path):
            asyncio.run(body(path, lambda size: os.read(master, size)))


def test_many_ports_that_answer_nothing_hold_up_no_other() -> None:
    """A terminal server without power: each attempt takes until its time-out."""

    async def body() -> None:
        with socket.socket() as full, listen() as listener:
            # Its queue holds one; the kernel lets all others wait.
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            dead = f"socket://127.0.0.1:{full.getsockname()[1]}"
            first = [SerialPort(dead, 0) for _ in range(200)]
            attempts = [asyncio.ensure_future(console.open(Recorder())) for console in first]
            async with started(SerialPort(f"socket://127.0.0.1:{listener.getsockname()[1]}", 0)) as it:
                assert it.events == []
            assert not all(attempt.done() for attempt in attempts)
            for attempt in attempts:
                attempt.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)
            for console in first:
                await console.close()

    asyncio.run(body())


def test_lost_connection_can_be_opened_again() -> None:
    async def body() -> None:
        listener = listen()
        port = listener.getsockname()[1]
        console = SerialPort(f"socket://127.0.0.1:{port}", 0)
        async with started(console) as it:
            with await accept(listener) as device:
                device.sendall(b"one ")
                await it.until_data(b"one ")
                listener.close()
            await it.until_events(1)
            assert it.events == ["lost: the other end closed the connection"]
            with pytest.raises(ConsoleError):
                await console.open(it)
            assert not console.write(b"there is nobody")
            with listen(port) as listener:
                await console.open(it)
                with await accept(listener) as device:
                    device.sendall(b"two")
                    await it.until_data(b"one two")
                    assert console.write(b"still works")
                    assert await asyncio.to_thread(device.recv, 100) == b"still works"
        assert len(it.events) == 1

    asyncio.run(body())


def test_close_while_the_connection_is_lost() -> None:
    async def body() -> None:
        with listen() as listener:
            console = SerialPort(f"socket://127.0.0.1:{listener.getsockname()[1]}", 0)
            async with started(console) as it:
                (await accept(listener)).close()
                await it.until_events(1)
        await console.close()

    asyncio.run(body())


def test_paused_port_keeps_what_comes() -> None:
    async def body() -> None:
        with listen() as listener:
            console = SerialPort(f"socket://127.0.0.1:{listener.getsockname()[1]}", 0)
            async with started(console) as it:
                with await accept(listener) as device:
                    device.sendall(b"before ")
                    await it.until_data(b"before ")
                    console.pause()
                    device.sendall(b"meanwhile ")
                    device.close()
                console.resume()
                await it.until_events(1)
            assert it.data == b"before meanwhile "

    asyncio.run(body())


def test_dead_peers_are_asked_for() -> None:
    """With these options the kernel gives a silent peer up after 22 s; a test can't wait for that."""

    async def body() -> None:
        with listen() as listener:
            console = SerialPort(f"socket://127.0.0.1:{listener.getsockname()[1]}", 0)
            async with started(console):
                with await accept(listener) as device:
                    output = await asyncio.to_thread(
                        subprocess.run,
                        ["ss", "-tno", "dst", f"127.0.0.1:{listener.getsockname()[1]}"],
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    assert "timer:(keepalive," in output.stdout
                    device.close()

    asyncio.run(body())


@pytest.mark.filterwarnings("ignore::DeprecationWarning:serial")
def test_terminal_server() -> None:
    """rfc2217: telnet, with a serial port's settings in it."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, serial.serial_for_url("loop://", timeout=0) as port:
            # It takes any port, and anything to write to.
            manager = serial.rfc2217.PortManager(port, connection.makefile("wb", buffering=0))  # type: ignore
            with contextlib.suppress(OSError):
                while data := connection.recv(1024):
                    port.write(b"".join(manager.filter(data)))
                    connection.sendall(b"".join(manager.escape(port.read(1024))))

    async def body() -> None:
        with listen() as listener:
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
            console = open_console(f"rfc2217://127.0.0.1:{listener.getsockname()[1]}", 9600)
            async with started(console) as it:
                console.write(b"there and \xff back")
                await it.until_data(b"there and \xff back")

    asyncio.run(body())
