# SPDX-License-Identifier: MIT
"""`lavabox sim --isolate`: what devices have of their own, and that nothing of it is left."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from dispatcher.consoles.processes import descendants, process_table
from dispatcher.errors import SetupError
from dispatcher.simulator.isolation import _process_limit, find_tools
from tests.consoles import eventually
from tests.dispatcher.isolation import BUSYBOX, make_image, why_not
from tests.dispatcher.lavabox_process import ROOT, processes_with, variables
from tests.dispatcher.simulating import Simulator

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


def namespaces(pids: Iterable[int]) -> set[str]:
    """Those that these processes are in, and this one is not."""
    return {link for pid in pids for link in _links(pid)} - set(_links(os.getpid()))


def _links(pid: int) -> list[str]:
    try:
        return [
            os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "mnt", "pid", "uts", "ipc", "cgroup")
        ]
    except OSError:
        return []


def everybody() -> list[int]:
    return [process.pid for process in process_table()]


@pytest.fixture
def sim(sim: Simulator) -> Iterator[Simulator]:
    """It isolates, and leaves no mount and no interface behind."""
    yield Simulator(sim.folder, sim.box, sim.temporary, ("--isolate", "--timeout", "50"))
    assert str(sim.temporary) not in Path("/proc/self/mountinfo").read_text()
    assert not {"lab", "device0", "device1"} & {name for _, name in socket.if_nameindex()}


def seconds() -> str:
    """An argument for `sleep` by which its processes are found."""
    return f"{secrets.randbelow(10**6) + 10**6}"


# The network

ANNOUNCE = "lava-network broadcast eth0; lava-network collect; "


def test_devices_tell_each_other_their_addresses(sim: Simulator) -> None:
    look = "for x in ipv4 netmask broadcast default-gateway mac hostname hostname-full; do lava-network query b-1 $x; done"
    status, text = sim.run(
        *("--role", f"a={ANNOUNCE}{look}; lava-network hosts /etc/hosts; getent hosts b-1; lava-sync x"),
        *("--role", f"b={ANNOUNCE}cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; lava-sync x"),
    )
    assert status == 0, text
    answers = re.findall(r"a-1 \| (\S+)\n", text)
    address = answers[0]
    assert re.fullmatch(r"10\.\d+\.0\.3", address)
    assert answers[1] == "255.255.0.0"
    assert answers[3] == address[:-1] + "1"
    assert answers[5:7] == ["b-1", "b-1"]
    assert f"b-1 | {answers[4]}\n" in text
    assert "b-1 | 1500\n" in text
    assert re.search(rf"a-1 \| {re.escape(address)}\s+b-1\n", text)


def test_mac_addresses_belong_to_the_names(sim: Simulator) -> None:
    def macs(*names: str) -> dict[str, str]:
        show = "cat /sys/class/net/eth0/address"
        status, text = sim.run(*(item for name in names for item in ("--device", f"{name}:x={show}")))
        assert status == 0, text
        return dict(re.findall(r"(\S+) +\| (02:\S+)\n", text))

    first, second = macs("panda", "hikey"), macs("hikey", "other", "panda")
    assert first == {name: second[name] for name in ("panda", "hikey")}
    assert len(set(second.values())) == 3


GREET = """
import socket, subprocess, sys
family, address = sys.argv[1:]
if address:
    print(socket.create_connection((address, 5000)).makefile().read())
else:
    server = socket.create_server(("", 5000), family=getattr(socket, family))
    subprocess.run(["lava-send", "listening"], check=True)
    server.accept()[0].sendall(b"hel" + b"lo")
"""


@pytest.mark.parametrize(("family", "key"), [("AF_INET", "ipv4"), ("AF_INET6", "ipv6")])
def test_devices_reach_each_other(sim: Simulator, family: str, key: str) -> None:
    (sim.folder / "greet.py").write_text(GREET)
    status, text = sim.run(
        *("--role", f'a={ANNOUNCE}python3 greet.py {family} ""'),
        *(
            "--role",
            f"b={ANNOUNCE}lava-wait listening; python3 greet.py {family} $(lava-network query a-1 {key})",
        ),
    )
    assert status == 0, text
    assert "b-1 | hello\n" in text


REACH = """
import socket, sys
for address in sys.argv[2:]:
    try:
        socket.create_connection((address, int(sys.argv[1])), 2)
        print("reached", address)
    except OSError as error:
        print("refused", address)
"""


def test_there_is_no_way_out(sim: Simulator) -> None:
    (sim.folder / "reach.py").write_text(REACH)
    with socket.create_server(("", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            own = probe.getsockname()[0]
        except OSError:
            own = "127.0.0.1"
        port = server.getsockname()[1]
        # (So it could be reached.)
        socket.create_connection((own, port)).close()
        gateway = "$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')"
        status, text = sim.run("--role", f"a=python3 reach.py {port} 127.0.0.1 {own} {gateway}; ip link")
    assert status == 0, text
    assert text.count("| refused ") == 3
    assert "reached" not in text
    assert set(re.findall(r"^a-1 \| \d+: ([^:@]+)", text, re.MULTILINE)) == {"lo", "eth0"}


# Names, files, processes


def test_names(sim: Simulator) -> None:
    own = os.uname().nodename
    look = "hostname; hostname -f; cat /etc/hostname; getent hosts a-1; getent hosts a-2 || echo unknown; nslookup x.invalid || :"
    status, text = sim.run("--role", f"a*2={look}")
    assert status == 0, text
    assert text.count("a-1 | a-1\n") == 3
    assert re.search(r"a-1 \| (fd|10\.)\S+\s+a-1\n", text)
    assert "a-1 | unknown\n" in text
    assert os.uname().nodename == own


@pytest.mark.parametrize("role", ["my_server", "größe", "ü" * 40], ids=["underscore", "umlaut", "long"])
def test_names_that_are_unusual_for_hosts(sim: Simulator, role: str) -> None:
    device = f"{role}-1"
    status, text = sim.run("--role", f'{role}=echo "<$(uname -n)>"; grep {device} /etc/hosts')
    assert status == 0, text
    assert f"{device} | <{device.encode()[:64].decode()}>\n" in text


def test_files_are_thrown_away(sim: Simulator) -> None:
    hosts = Path("/etc/hosts").read_bytes()
    name = f"lavabox-test-{secrets.token_hex(8)}"
    places = f"/etc/{name} /tmp/{name} /var/tmp/{name} /usr/local/{name} /{name} here-{name} /run/{name} /dev/shm/{name}"
    command = (
        f"for f in {places}; do echo hello >$f || exit; done; echo '10.9.9.9 mine' >>/etc/hosts; "
        f"getent hosts mine; lava-sync x; lava-sync y"
    )
    status, text = sim.run(
        *("--role", f"a={command}"),
        *("--role", f"b=lava-sync x; cat {places} /etc/hosts; ls /tmp; lava-sync y"),
    )
    assert status == 0, text
    assert re.search(r"a-1 \| 10\.9\.9\.9 +mine\n", text)
    assert "b-1 | hello" not in text
    assert "mine" not in "".join(re.findall(r"b-1 \|.*\n", text))
    assert Path("/etc/hosts").read_bytes() == hosts
    for place in places.split():
        assert not (sim.folder / place).exists(), place


def test_what_the_run_needs_is_there(sim: Simulator) -> None:
    script = sim.folder / "deep" / "run.sh"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\npwd; cat ./beside ../above; echo changed >beside; cat beside; lava-self")
    script.chmod(0o755)
    (script.parent / "beside").write_text("beside\n")
    (sim.folder / "above").write_text("above\n")
    status, text = sim.run("--role", "a=deep/run.sh")
    assert status == 0, text
    for line in (str(script.parent), "beside", "above", "changed", "a-1"):
        assert f"a-1 | {line}\n" in text
    assert (script.parent / "beside").read_text() == "beside\n"


def test_killing_everything_kills_only_the_device(sim: Simulator) -> None:
    mark = seconds()
    outside = subprocess.Popen(["sleep", mark])
    try:
        kill = "sleep 1000 & kill -KILL -1; wait; echo alive; lava-sync x"
        status, text = sim.run(
            *("--role", f"a=lava-wait go; {kill}"),
            *("--role", "b=sleep 1000 & lava-send go; lava-sync x; jobs -l"),
        )
        assert outside.poll() is None
    finally:
        outside.kill()
        outside.wait()
    assert status == 0, text
    assert "a-1 | alive\n" in text
    assert re.search(r"b-1 \|.*Running", text)


def test_process_ids(sim: Simulator) -> None:
    orphan = "sh -c 'sleep 0.2 & echo $! >/tmp/orphan'; pid=$(cat /tmp/orphan)"
    # It is adopted by process 1, which reaps it.
    reaped = f"{orphan}; grep -q '^PPid:.1$' /proc/$pid/status && echo adopted; while [ -e /proc/$pid ]; do sleep 0.05; done; echo reaped"
    status, text = sim.run("--role", f"a=ls -d /proc/[0-9]* | wc -l; {reaped}")
    assert status == 0, text
    (count,) = re.findall(r"a-1 \| (\d+)\n", text)
    assert int(count) < 8
    assert "a-1 | adopted\n" in text
    assert "a-1 | reaped\n" in text


def test_the_console_is_a_controlling_terminal(sim: Simulator) -> None:
    command = (
        'tty; echo "$LAVA_CONSOLE"; echo open >/dev/tty; lava-wait x & '
        "bash -ic 'echo job control; sleep 0.1 & fg' && wait; echo status $?"
    )
    status, text = sim.run("--role", f"a={command}", "--role", "b=lava-send x")
    assert status == 0, text
    assert text.count("a-1 | /dev/console\n") == 2
    assert "a-1 | open\n" in text
    assert "no job control" not in text
    assert "a-1 | sleep 0.1\n" in text
    assert "a-1 | status 0\n" in text


def test_device_nodes(sim: Simulator) -> None:
    """Those that tests need are there, and nothing of this machine's can be reached or taken away."""
    name = f"lavabox-test-{secrets.token_hex(8)}"
    before = sorted(os.listdir("/dev"))
    mode = os.stat("/dev/null").st_mode
    use = "for n in null zero full random urandom tty console shm ptmx fd/1; do [ -e /dev/$n ] || echo no $n; done"
    status, text = sim.run(
        "--role",
        f"a={use}; echo x >/dev/{name}; rm -f /dev/null /dev/kmsg; chmod 600 /dev/zero; "
        "head -c 3 /dev/urandom | wc -c; script -qc 'tty' /tmp/typescript; find /dev -type b",
    )
    assert status == 0, text
    assert re.findall(r"a-1 \| (.*)\n", text) == ["3", "/dev/pts/0"]
    assert sorted(os.listdir("/dev")) == before
    assert os.stat("/dev/null").st_mode == mode == os.stat("/dev/zero").st_mode


RESOLVE = """
import errno, socket, subprocess
server = next(line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver"))
gateway = subprocess.run(["ip", "route"], capture_output=True, text=True).stdout.split("via ")[1].split()[0]
for server in [server, gateway, "192.0.2.53", "2001:db8::53"] * 20:
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as query:
        query.connect((server, 53))
        query.send(b"query")
        try:
            query.recv(1)
        except ConnectionRefusedError:
            pass
print("all refused")
with socket.socket() as outside:
    print(errno.errorcode[outside.connect_ex(("192.0.2.1", 80))])
"""


def test_each_name_lookup_is_refused_at_once(sim: Simulator) -> None:
    """Here, at the bridge, and outside. Linux tells one in a second only that there is no route, and UDP sockets never;
    then each would take until the resolver gives up."""
    (sim.folder / "resolve.py").write_text(RESOLVE)
    status, text = sim.run("--role", "a=python3 resolve.py; getent hosts x.invalid || echo unknown")
    assert status == 0, text
    assert "a-1 | all refused\na-1 | EHOSTUNREACH\na-1 | unknown\n" in text


@pytest.mark.skipif(
    _process_limit(os.uname().release) == "", reason="the number of processes is limited from Linux 6.14 on"
)
def test_a_device_can_not_have_too_many_processes(sim: Simulator) -> None:
    limit = int(_process_limit(os.uname().release))
    before = Path("/proc/sys/kernel/pid_max").read_text()
    # It ends a little above the limit, were there none.
    fork = (
        "import os, signal\n"
        "children = []\n"
        f"while len(children) < {limit + 10}:\n"
        "    try:\n"
        "        children.append(os.fork())\n"
        "    except BlockingIOError:\n"
        "        print('no more')\n"
        "        break\n"
        "    if not children[-1]:\n"
        "        signal.pause()\n"
        # All first: on a busy machine each takes its turn to die.
        "for child in children:\n"
        "    os.kill(child, signal.SIGKILL)\n"
        "for child in children:\n"
        "    os.waitpid(child, 0)\n"
    )
    (sim.folder / "fork.py").write_text(fork)
    status, text = sim.run("--role", "a=python3 -I -S fork.py; lava-self")
    assert status == 0, text
    assert [line for line in text.splitlines() if line.startswith("a-1 | ")] == [
        "a-1 | no more",
        "a-1 | a-1",
    ], text
    assert Path("/proc/sys/kernel/pid_max").read_text() == before


@pytest.mark.parametrize("name", ["my stand-ins", "a,b", "ü"])
def test_a_shell_that_only_the_run_sees(name: str, sim: Simulator) -> None:
    folder = sim.folder / name
    folder.mkdir()
    (folder / "shell").write_text('#!/bin/sh\necho my shell\nexec /bin/sh "$@"\n')
    (folder / "shell").chmod(0o755)
    status, text = sim.run("--shell", f"'{folder}/shell'", "--role", "a=lava-self")
    assert status == 0, text
    assert "a-1 | my shell\na-1 | a-1\n" in text


# Reboots


@pytest.mark.parametrize("way", ["lava-reboot", "reboot", "env -i lava-reboot", "busybox reboot -f"])
def test_what_is_left_of_a_device_that_reboots(way: str, sim: Simulator) -> None:
    if way.startswith("busybox") and BUSYBOX is None:
        pytest.skip("busybox is not installed")
    mark = seconds()
    way = way.replace("lava-reboot", '"$(command -v lava-reboot)"')
    first = (
        f"echo kept >/etc/kept; echo kept >here; rm /etc/hostname; echo gone >/tmp/gone; setsid sleep {mark} & "
        f"ip link set eth0 mtu 1400; lava-send before; lava-wait never & {way}"
    )
    then = (
        "cat /etc/kept here; ls -A /tmp /etc/hostname; pgrep -cx sleep; cat /sys/class/net/eth0/mtu; "
        f"lava-network broadcast eth0; lava-send after; {ANNOUNCE}lava-network query b-1 mac"
    )
    status, text = sim.run(
        *("--role", f"a=echo boot $LAVABOX_BOOT; if [ $LAVABOX_BOOT = 1 ]; then {first}; else {then}; fi"),
        *("--role", f"b={ANNOUNCE}lava-wait before; lava-wait after; cat /sys/class/net/eth0/address"),
    )
    assert status == 0, text
    before, _, after = text.partition("(a device that lavabox simulates)\n")
    assert "a-1 | boot 1\n" in before
    assert "reboot: Restarting system" in before
    assert "Linux version" in before
    (mac,) = re.findall(r"b-1 \| (02:.*)\n", text)
    gone = "ls: cannot access '/etc/hostname': No such file or directory"
    lines = [line for line in re.findall(r"a-1 \| (.*)\n", after) if str(sim.folder.parts[2]) not in line]
    assert lines == ["boot 2", "kept", "kept", gone, "/tmp:", "0", "1500", mac]
    assert processes_with(mark) == []


# Ends


def test_how_devices_end(sim: Simulator) -> None:
    mark = seconds()
    leave = f"(trap '' HUP; sleep {mark}) & setsid sleep {mark} & setsid env -i sleep {mark} &"
    status, text = sim.run(
        *("--role", f"good={leave} lava-self"), *("--role", "bad=exit 3"), *("--role", "dead=kill -KILL $$")
    )
    assert status == 1
    assert "good-1 ! ended with status 0\n" in text
    assert "bad-1  ! ended with status 3\n" in text
    assert "dead-1 ! ended with status 137 (SIGKILL)\n" in text
    assert processes_with(mark) == []


def test_devices_are_asked_to_end(sim: Simulator) -> None:
    mark = seconds()
    command = f"trap 'echo tidied up; exit' TERM; echo ready; sleep {mark} & wait"
    with sim.start("--role", f"a={command}", "--log-dir", "logs") as process:
        process.until("a-1 | ready")
        process.interrupt()
        assert process.finish() == 130
    assert "a-1 | tidied up\n" in process.text
    assert processes_with(mark) == []


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_nothing_is_left(sim: Simulator, number: signal.Signals, expected: int) -> None:
    mark = seconds()
    leave = f"(trap '' HUP; sleep {mark}) & setsid sleep {mark} & setsid env -i sleep {mark} &"
    with sim.start("--role", f"a*2={leave} trap '' HUP; echo ready; sleep {mark}") as process:
        process.until("| ready", times=2)
        below = [found.pid for found in descendants(process.pid, process_table())]
        ours = namespaces(below)
        # Of the two devices, and of the lab; it has a host name and so on in common with this machine.
        assert len(ours) == 2 * 6 + 3
        process.interrupt(number)
        assert process.finish() == expected
    eventually(lambda: processes_with(mark) == [], "the end of the processes")
    eventually(lambda: not ours & namespaces(everybody()), "the end of the namespaces")
    eventually(lambda: list(sim.temporary.iterdir()) == [], "the end of the run's folder")


# With other options


def test_other_options(sim: Simulator) -> None:
    status, text = sim.run(
        *(
            "--faults",
            "printk=20",
            "--baud",
            "115200",
            "--seed",
            "3",
            "--shell",
            "bash -e",
            "--log-dir",
            "logs",
        ),
        *("--role", "a*3=[[ $BASH ]]; lava-sync x; hostname; lava-sync y"),
    )
    assert status == 0, text
    # A kernel message may stand in the middle of the name.
    log = re.sub(rb"\[ *\d+\.\d{6}\] [^\r\n]*\r\n", b"", (sim.folder / "logs" / "a-2.log").read_bytes())
    assert b"a-2" in log


def test_dead_ends_are_found(sim: Simulator) -> None:
    status, text = sim.run("--role", "a=lava-send redy; lava-sync end", "--role", "b=lava-wait ready")
    assert status == 1
    assert "lavabox: dead end: b-1 has waited " in text
    assert "(did you mean 'ready'?)" in text


def test_sixteen_devices(sim: Simulator) -> None:
    status, text = sim.run("--role", "a*16=lava-sync x; hostname; lava-sync y")
    assert status == 0, text
    for number in range(1, 17):
        assert f"a-{number:<2} | a-{number}\n" in text


def test_variables_of_the_host_are_not_taken_over(sim: Simulator) -> None:
    status, text = sim.run(
        "--role", 'a=echo "<$TMPDIR$SSH_AUTH_SOCK>"; rm "$(mktemp)"', SSH_AUTH_SOCK="/run/x"
    )
    assert status == 0, text
    assert "a-1 | <>\n" in text


# Images


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if BUSYBOX is None or shutil.which("ldd") is None:
        pytest.skip("an image is made of busybox, which is not installed")
    folder = tmp_path_factory.mktemp("image") / "root"
    make_image(folder, Path(sys.executable))
    return folder


def test_image(sim: Simulator, image: Path) -> None:
    before = sorted(image.rglob("*"))
    (sim.folder / "run.sh").write_text(
        "#!/bin/sh\ncat /etc/issue; ls /; echo new >/etc/new; echo more >>/etc/issue; hostname; lava-sync x"
    )
    (sim.folder / "run.sh").chmod(0o755)
    status, text = sim.run("--role", "a*2=./run.sh", "--image", str(image))
    assert status == 0, text
    assert "a-1 | a small image\n" in text
    assert "a-1 | a-1\n" in text
    assert sorted(image.rglob("*")) == before
    assert (image / "etc" / "issue").read_text() == "a small image\n"


def test_a_folder_that_is_removed_before_a_device_is_made(sim: Simulator, image: Path) -> None:
    extra = image / "extra"
    extra.mkdir()
    command = "echo boot $LAVABOX_BOOT; [ $LAVABOX_BOOT = 2 ] || { lava-wait x --timeout 1; lava-reboot; }"
    roles = ("--role", f"a={command}", "--role", "b=lava-wait never --timeout 2 || true")
    with sim.start(*roles, "--image", str(image)) as process:
        process.until("a-1 | boot 1")
        extra.rmdir()
        assert process.finish() == 0, process.text
    assert "a-1 | boot 2\n" in process.text


def test_images_that_are_of_no_use(sim: Simulator, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sim.folder / "empty").mkdir()
    status, text = sim.run("--role", "a=true", "--image", "empty")
    assert (status, "there is no /bin/sh that this machine can run" in text) == (1, True), text
    status, text = sim.run("--role", "a=true", "--image", "nosuch")
    assert (status, "--image nosuch: no such folder" in text) == (1, True), text
    no_python = sim.folder / "no-python"
    shutil.copytree(image, no_python, symlinks=True)
    (no_python / "usr" / "bin" / "python3").rename(no_python / "usr" / "bin" / "python3.x")
    status, text = sim.run("--role", "a=true", "--image", str(no_python))
    assert status == 1
    assert (
        f"--image {no_python}: the lava-* commands can't run in {no_python}: there is no python3 in /" in text
    )
    monkeypatch.setenv("LAVABOX_PYTHON", "python3.x")
    status, text = sim.run("--role", "a=lava-self", "--image", str(no_python))
    assert (status, "a-1 | a-1\n" in text) == (0, True), text
    monkeypatch.delenv("LAVABOX_PYTHON")
    status, text = sim.run("--role", "a=true", "--image", str(image), "--shell", "nosuch")
    assert (status, "--shell 'nosuch': there is no such program in" in text) == (1, True), text


PYTHONS = {
    "too old": ("sys.version_info = (3, 5, 9)", "its Python is 3.5, and 3.6 or later is needed"),
    "lacks a module": (
        "sys.modules['termios'] = sys.modules['select'] = None",
        "its Python has no select, termios",
    ),
}


@pytest.mark.parametrize("what", PYTHONS)
def test_pythons_that_are_not_enough(what: str, sim: Simulator, image: Path) -> None:
    change, sentence = PYTHONS[what]
    poor = sim.folder / "poor"
    shutil.copytree(image, poor, symlinks=True)
    (library,) = (poor / "usr" / "lib").glob("python3*")
    (library / "sitecustomize.py").write_text(f"import sys; {change}\n")
    status, text = sim.run("--role", "a=true", "--image", str(poor))
    assert status == 1
    assert sentence in text


# Where it can't be done


def test_it_does_without_isolation_only_if_told_to(sim: Simulator) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give up the right to make namespaces")
    done = subprocess.run(
        [
            *("setpriv", "--bounding-set=-sys_admin", sys.executable, "-m", "dispatcher", "sim", "--isolate"),
            *("--box", str(sim.box), "--role", "a=true"),
        ],
        cwd=sim.folder,
        env=variables(TMPDIR=str(sim.temporary)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "--isolate is not possible on this machine: unshare: " in done.stderr
    assert "Run it as root; or" in done.stderr
    assert "a-1" not in done.stdout


TOOLS = ("ip", "mount", "umount", "hostname", "chroot", "setsid", "nsenter", "unshare", "setpriv", "mkdir")


def test_stand_ins_are_for_the_devices_only(sim: Simulator) -> None:
    """Programs that come first in PATH, or in --path, do not take part in making the devices."""
    for folder in ("first", "stand-ins"):
        (sim.folder / folder).mkdir()
        for name in TOOLS:
            (sim.folder / folder / name).write_text(f"#!/bin/sh\necho {folder} ${{0##*/}}\n")
            (sim.folder / folder / name).chmod(0o755)
    status, text = sim.run(
        *("--role", "a=hostname; ip; cat /proc/sys/kernel/hostname; lava-self", "--path", "stand-ins"),
        PATH=f"{sim.folder / 'first'}{os.pathsep}{os.environ['PATH']}",
    )
    assert status == 0, text
    assert re.findall(r"a-1 \| (.*)\n", text) == ["stand-ins hostname", "stand-ins ip", "a-1", "a-1"]


def test_missing_programs(sim: Simulator) -> None:
    tools = sim.folder / "few"
    tools.mkdir()
    for name in ("sh", "env", "ip", "mount", "hostname", "chroot", "setsid", "nsenter"):
        (tools / name).symlink_to(shutil.which(name) or "/bin/true")
    (tools / "python3").symlink_to(Path(sys.executable).resolve())
    environment = {**variables(TMPDIR=str(sim.temporary)), "PATH": str(tools)}
    arguments = [
        sys.executable,
        "-m",
        "dispatcher",
        "sim",
        "--isolate",
        "--box",
        str(sim.box),
        "--role",
        "a=true",
    ]
    done = subprocess.run(arguments, cwd=sim.folder, env=environment, capture_output=True, text=True)
    # Those of the system are found all the same.
    assert done.returncode == 0, done.stderr


def test_programs_that_are_not_enough(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="--isolate needs `unshare`; install the package util-linux"):
        find_tools(str(tmp_path))
    (tmp_path / "busybox").write_text("")
    (tmp_path / "busybox").chmod(0o755)
    (tmp_path / "unshare").symlink_to("busybox")
    with pytest.raises(
        SetupError, match="needs `unshare` of the package util-linux, and BusyBox has another one"
    ):
        find_tools(str(tmp_path))


def test_shared_tmp_is_no_isolation(sim: Simulator) -> None:
    status, text = sim.run("--role", "a=true", "--shared-tmp")
    assert (status, "--shared-tmp and --isolate can't be used together" in text) == (2, True)


# As a normal user

NOBODY = 65534
NORMAL_USER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def as_normal_user(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run lavabox as one who has no rights, with the system's Python: that of the tests may be out of reach."""
    imports = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.run(
        [*NORMAL_USER, "/usr/bin/python3", "-B", "-m", "dispatcher", *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": "/", "PYTHONPATH": f"{ROOT}{os.pathsep}{imports}"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def public_folder(box: Path) -> Iterator[Path]:
    """A folder that any user can read, with the box in it; pytest's own are private."""
    if os.geteuid() != 0:
        pytest.skip("the tests run as a normal user already")
    folder = Path("/var/tmp") / f"lavabox-test-{secrets.token_hex(8)}"
    folder.mkdir()
    shutil.copy(box, folder / "lavabox")
    if (problem := as_normal_user("--version", folder=folder)).returncode != 0:
        shutil.rmtree(folder)
        pytest.skip(f"a normal user can't run lavabox from here: {problem.stderr[-200:]}")
    yield folder
    shutil.rmtree(folder)


def test_normal_user(public_folder: Path) -> None:
    command = (
        f"{ANNOUNCE}id -u; hostname; lava-network hosts /etc/hosts; getent hosts b-1; echo x >>/etc/services && "
        "echo x >/usr/local/bin/x && echo written; ls /tmp; lava-sync x"
    )
    done = as_normal_user(
        *("sim", "--isolate", "--box", "./lavabox", "--timeout", "50", "--role", f"a={command}"),
        *("--role", f"b={ANNOUNCE}lava-sync x"),
        folder=public_folder,
    )
    if "--isolate is not possible on this machine" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("0", "a-1", "written"):
        assert f"a-1 | {line}\n" in done.stdout, done.stdout
    assert re.search(r"a-1 \| 10\.\S+\s+b-1\n", done.stdout)


def test_normal_user_whose_device_mounts_and_unmounts(public_folder: Path) -> None:
    """What is below the mounts of a device is nothing of this machine."""
    (public_folder / "open").mkdir()
    (public_folder / "open").chmod(0o777)
    target = public_folder / "open" / "written"
    write = f"echo x >{target}"
    command = (
        f"mounts=$(cut -d ' ' -f 5 /proc/self/mountinfo | tac); mkdir /mnt/all; mount --rbind / /mnt/all; {write}; "
        f"echo x >/mnt/all{target}; mount -o remount,bind,rw /var; {write}; "
        "for one in $mounts; do case $one in /|/usr|/dev*) ;; *) umount -l $one ;; esac; done; "
        f"{write}; umount -l /usr; {write}; echo at its end"
    )
    done = as_normal_user(
        *("sim", "--isolate", "--box", "./lavabox", "--timeout", "50", "--role", f"a={command}"),
        folder=public_folder,
    )
    if "--isolate is not possible on this machine" in done.stderr:
        pytest.skip(done.stderr)
    assert "a-1 | at its end\n" in done.stdout, done.stdout + done.stderr
    assert not target.exists()
