# SPDX-License-Identifier: MIT
"""`lavabox serve` beside peers that mean harm: one console can't speak for another, nor stop its traffic."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.dispatcher.commands.test_serve import Board, commands  # noqa: F401 (a fixture)
from tests.dispatcher.lavabox_process import PATIENCE, Lavabox, variables


class Recorder:
    """Copies between a device and the dispatcher, and keeps what the device says."""

    def __init__(self, dispatcher: socket.socket) -> None:
        self.said = b""
        self.device, ours = socket.socketpair()
        self._ends = [(ours, dispatcher, True), (dispatcher, ours, False)]
        for end in self._ends:
            threading.Thread(target=self._copy, args=end, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, keep: bool) -> None:
        try:
            while data := source.recv(4096):
                if keep:
                    self.said += data
                sink.sendall(data)
        except OSError:
            pass


def group_events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "group.log").read_text().splitlines()]


def test_frames_of_another_console_do_nothing(commands: Path, tmp_path: Path) -> None:  # noqa: F811
    """A peer that has recorded all that another device says, and says it again on its own console."""
    board = Board("lava-send x k=v; lava-test-case t --result fail; echo done", commands, tmp_path / "caches")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        victim, peer = (f"socket://127.0.0.1:{server.getsockname()[1]}" for server in (one, other))
        with Lavabox(
            *("serve", "--console", f"victim:a={victim}", "--console", f"peer:b={peer}"),
            *("--group-log", "group.log", "--log-dir", "logs", "--stats"),
            cwd=tmp_path,
        ) as process:
            recorder = Recorder(one.accept()[0])
            hostile = other.accept()[0]
            board.run(recorder.device.fileno())
            process.until("victim | done")
            recorded = recorder.said
            assert recorded.count(b"\x1b]5282;") > 2
            before = group_events(tmp_path)
            for _ in range(20):
                hostile.sendall(recorded)
            hostile.sendall(b"the end of it\r\n")
            process.until("peer   | the end of it")
            process.interrupt()
            assert process.finish() == 0
            board.stop()
            hostile.close()
    events = group_events(tmp_path)
    # What it reports in the clear (LAVA's text signals) is its own; there is none here.
    assert [event for event in events if event.get("device") == "victim"] == [
        event for event in before if event.get("device") == "victim"
    ]
    assert {event["type"] for event in events if event.get("device") == "peer"} <= {"joined"}


def test_a_peer_that_talks_without_end_does_not_hold_up_the_others(commands: Path, tmp_path: Path) -> None:  # noqa: F811
    board = Board("lava-send x k=v && lava-self; echo status $?", commands, tmp_path / "caches")
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        victim, peer = (f"socket://127.0.0.1:{server.getsockname()[1]}" for server in (one, other))
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "dispatcher", "serve", "--log-dir", "logs"),
                *("--console", f"victim:a={victim}", "--console", f"peer:b={peer}"),
            ],
            cwd=tmp_path,
            env=variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        line, hostile = one.accept()[0], other.accept()[0]
        (tmp_path / "logs" / "peer.log").unlink()  # nobody needs it

        def talk() -> None:
            noise = b"\x1b]5282;" + os.urandom(30).hex().encode() * 20
            try:
                while not ended.is_set():
                    hostile.sendall(noise)
            except OSError:
                pass

        talker = threading.Thread(target=talk, daemon=True)
        talker.start()
        board.run(line.fileno())
        log, deadline = tmp_path / "logs" / "victim.log", time.monotonic() + PATIENCE
        while b"status" not in log.read_bytes() and time.monotonic() < deadline:
            time.sleep(0.05)
        ended.set()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        hostile.close()
        talker.join()
        board.stop()
    assert log.read_bytes() == b"victim\r\nstatus 0\r\n"


MANY = """\
import os, socket, sys
number = os.stat(sys.argv[1]).st_rdev
os.setgid(65534); os.setuid(65534)
names = {line.split()[7] for line in open("/proc/net/unix") if "@lavabox/" in line}
(name,) = [name for name in names if name.startswith(f"@lavabox/0/{number:x}-")]
held = []
for number in range(1000):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    try:
        connection.connect("\\0" + name[1:])
    except OSError:
        break
    held.append(connection)
print("connected", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_with_a_thousand_connections_to_the_agent(commands: Path, tmp_path: Path) -> None:  # noqa: F811
    """They are closed one by one, and the commands go on."""
    (tmp_path / "many.py").write_text(MANY)
    (tmp_path / "run.sh").write_text(
        f"stty sane; export LAVA_CONSOLE=$(tty) PATH={commands}:$PATH LAVA_MULTI_NODE_CACHE={tmp_path}/cache\n"
        "lava-wait never --timeout 100 >/dev/null 2>&1 & wait=$!\n"
        "until grep -q @lavabox/0/ /proc/net/unix; do sleep 0.1; done\n"
        "ulimit -n 4096; mkfifo end; exec 3<>end\n"
        "python3 many.py $LAVA_CONSOLE <end >started 2>&1 & many=$!\n"
        "until [ -s started ]; do sleep 0.1; done\n"
        "for i in 1 2 3; do lava-send m$i && echo sent $i; done\n"
        "echo end >&3; wait $many; kill $wait; wait $wait; echo waited $?\n"
    )
    with Lavabox(
        "serve", "--console", "a:x=exec:sh run.sh", "--console", "b:x=exec:sleep 1000", cwd=tmp_path
    ) as process:
        process.until("a | sent 3")
        process.until("a | waited 143")
        process.interrupt()
        assert process.finish() == 0
