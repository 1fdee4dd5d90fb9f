# SPDX-License-Identifier: MIT
"""Isolated devices: each in namespaces of its own, on one bridge, with a root that is thrown away.

    lavabox -- pipe --> lab: process 1 of a pid namespace; its network namespace has the bridge
       |
       +-- a device: its process 1 in a pid namespace below the lab's; eth0 -- bridge

The lab ends when nobody has the other end of the pipe any more, however that came about. Then the
kernel kills everything in its pid namespace, and namespaces, mounts and interfaces go with the last
process in them. None are made in the host's own namespaces.
"""

import os
import re
import select
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dispatcher.consoles.processes import MARK_VARIABLE
from dispatcher.errors import SetupError
from dispatcher.simulator.isolationscripts import DEVICE, INIT, LAB
from dispatcher.simulator.network import Interface, Network, plan_network, routed_networks
from dispatcher.simulator.rootfolder import Part, mount_points, root_parts, visible_parts

# What is called, and the package that it has to be of: BusyBox's namesakes can do less.
_TOOLS = {
    **dict.fromkeys(("unshare", "nsenter", "setsid", "setpriv", "mount", "umount"), "util-linux"),
    "ip": "iproute2",
    "hostname": "hostname",
    "chroot": "coreutils",
}
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Variables that name places which a device does not have.
_OF_THE_HOST = {
    *("TMPDIR", "TEMP", "TMP", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK"),
    *("DISPLAY", "WAYLAND_DISPLAY", "TMUX", "STY"),
}
# Seconds for an attempt, which takes a tenth of one.
_PATIENCE = 60.0
# Processes of a device: no board has so many, and few machines feel them. A process namespace has a limit of its
# own from Linux 6.14 on; before, the same setting is the whole machine's.
_MOST_PROCESSES = 4096
_LIMIT_SINCE = (6, 14)
# Where a device is told by what it reboots.
POWER = "/run/lavabox/power"
# The device that is tried out.
_TRIAL = "trial"

_HOW = (
    "Run it as root; or let users make namespaces, by the setting user.max_user_namespaces, on Debian "
    "kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0, in a "
    "container by `docker run --privileged`; or leave --isolate out"
)
# What the device that is tried out says by its exit status.
_NO_PYTHON, _NO_SHELL = 43, 44
# What is wrong with the device's Python: by 2.7 as well.
_PYTHON_CHECK = """\
import sys
if sys.version_info < (3, 6):
    sys.exit("its Python is %d.%d, and 3.6 or later is needed" % sys.version_info[:2])
missing = []
for name in "_socket _struct binascii fcntl select termios".split():
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
if missing:
    sys.exit("its Python has no %s; a small image has this in a package of its own, such as python3-minimal's "
             "libpython3-stdlib (Debian) or python3-io (Yocto)" % ", ".join(missing))
"""
_TRY = (
    "python=${LAVABOX_PYTHON:-python3}\n"
    'command -v "$python" >/dev/null || {\n'
    '    echo "there is no $python in $PATH; LAVABOX_PYTHON=PROGRAM names another"\n'
    f"    exit {_NO_PYTHON}\n"
    "}\n"
    f'"$python" -c "$2" || exit {_NO_PYTHON}\n'
    f'command -v "$1" >/dev/null || exit {_NO_SHELL}'
)


@dataclass(frozen=True, slots=True)
class Lab:
    """A running lab: where isolated devices can be started.

    :param pid: of the process that holds the lab's namespaces.
    :param tools: the programs that make a device, by their names.
    :param visible: folders of this machine that all devices see, each at its own path.
    """

    pid: int
    tools: Mapping[str, str]
    state: Path
    image: Path | None
    own_users: bool
    network: Network
    parts: Sequence[Part]
    visible: Sequence[Path]
    mounts: Mapping[Path, str]

    def device_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What of this machine's environment makes sense on a device."""
        kept = {name: value for name, value in environment.items() if name not in _OF_THE_HOST}
        kept.pop("HOSTNAME", None)
        kept |= {"LAVA_CONSOLE": "/dev/console", "LAVABOX_POWER": POWER}
        if self.image is not None:
            kept |= {"PATH": _SYSTEM_PATH, "HOME": "/root"}
        return kept

    def starter(self, name: str, directory: Path, power: Path) -> list[str]:
        """What starts the device of this name, as `PtyProcess` takes it. Raises SetupError.

        Called again, after all processes of the device have ended, it is a reboot: what the device has
        written is there, but for /tmp, /run and /dev.

        :param directory: where its command runs; on the device it has the same path.
        :param power: the FIFO that the device is to find at POWER.
        """
        return self._starter(str(list(self.network.interfaces).index(name)), name, directory, power)

    def _starter(self, space: str, name: str, directory: Path, power: Path) -> list[str]:
        interface = self.network.interfaces[name]
        values = {
            "name": name,
            "space": space,
            "python": sys.executable,
            "hosts": self._hosts(name, interface),
            "network": self._plug(interface),
            "processes": _process_limit(os.uname().release),
            "power": str(power),
            "directory": str(directory.resolve()),
            "init": INIT,
            **_common(self.state, self.image, self.own_users),
        }
        folders = {folder.resolve() for folder in [directory, self.state, *self.visible]}
        visible = _shell_lines(visible_parts(folders, self.image, self.mounts))
        script = DEVICE.replace("@PARTS@\n", _shell_lines(self.parts)).replace("@VISIBLE@\n", visible)
        return [*self._enter(), "/bin/sh", "-c", _assigned(values) + script, "lavabox"]

    def _enter(self) -> list[str]:
        namespaces = f"/proc/{self.pid}/ns"
        users = [f"--user={namespaces}/user", "--preserve-credentials"] if self.own_users else []
        lab = [f"--pid={namespaces}/pid_for_children", f"--net={namespaces}/net", f"--mount={namespaces}/mnt"]
        own = ["--mount", "--uts", "--ipc", "--net", "--pid", "--fork"]
        if os.path.exists("/proc/self/ns/cgroup"):
            # Who mounts the control groups sees those below lavabox's own only.
            own.insert(0, "--cgroup")
        return [self.tools["nsenter"], *users, *lab, self.tools["unshare"], *own]

    def _hosts(self, name: str, interface: Interface) -> str:
        lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
        lines += [f"{interface.ipv4.ip}\t{name}", f"{interface.ipv6.ip}\t{name}"]
        return "\n".join(lines if _ipv6_there() else lines[::2])

    def _plug(self, interface: Interface) -> str:
        """For `ip -batch`; process 1 is the lab's, whose /proc is the one that is mounted at that moment."""
        lines = [
            "link set lo up",
            f"link add eth0 address {interface.mac} type veth peer name @PORT@ netns /proc/1/ns/net",
            f"address add {interface.ipv4} broadcast + dev eth0",
            "link set eth0 up",
            f"route add default via {self.network.gateway_ipv4.ip} dev eth0",
        ]
        if _ipv6_there():
            # Without waiting for a host that has the same address, which there can't be.
            lines.insert(3, f"address add {interface.ipv6} dev eth0 nodad")
            lines.append(f"route add default via {self.network.gateway_ipv6.ip} dev eth0")
        return "\n".join(lines)

    def attempt(self, shell: str) -> None:
        """Start a device that does nothing. Raises SetupError if that can't be done, or there would be no use.

        :param shell: the program that will run the commands.
        """
        # A file in the place of its console, for what the device has to say.
        said = self.state / _TRIAL
        said.touch()
        name = next(iter(self.network.interfaces))
        argv = [*self._starter(_TRIAL, name, self.state, said), str(said)]
        try:
            done = subprocess.run(
                [*argv, "/bin/sh", "-c", _TRY, "sh", shell, _PYTHON_CHECK],
                env=self.device_environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _refused(str(error)) from error
        there = "on this machine" if self.image is None else f"in {self.image}"
        if self.image is not None and "chroot: " in done.stderr:
            raise SetupError(
                f"--image {self.image}: there is no /bin/sh that this machine can run ({_one_line(done.stderr)}); "
                "an image is a folder with a whole root, for this kind of processor"
            )
        if done.returncode == _NO_PYTHON:
            reason = _one_line(said.read_text(errors="replace"))
            of = "--isolate" if self.image is None else f"--image {self.image}"
            raise SetupError(f"{of}: the lava-* commands can't run {there}: {reason}")
        if done.returncode == _NO_SHELL:
            raise SetupError(f"--shell {shell!r}: there is no such program {there}")
        if done.returncode != 0:
            raise _refused(_one_line(done.stderr) or f"it ended with status {done.returncode}")


@contextmanager
def running_lab(
    names: Sequence[str], state: Path, image: Path | None, shell: str, visible: Sequence[Path]
) -> Iterator[Lab]:
    """A lab for devices of these names, for the time of the block. Raises SetupError.

    :param state: the run's own folder, which goes with the lab if this process is killed.
    :param image: the root folder of the devices; None: this machine's.
    :param shell: the program that will run the devices' commands.
    :param visible: folders of this machine that all devices see, each at its own path.
    """
    tools = find_tools(tools_path())
    if image is not None:
        image = _checked(image)
    # Root does without a user namespace, in which it would not be allowed much any more.
    own_users = os.geteuid() != 0
    network = plan_network(names, routed_networks(_read("/proc/net/route")))
    mounts = mount_points(_read("/proc/self/mountinfo"))
    parts = root_parts(image or Path("/"), mounts)
    users = ["--user", "--map-root-user"] if own_users else []
    spaces = " ".join([_TRIAL, *map(str, range(len(names)))])
    values = {"network": _bridge(network), "state": str(state), "spaces": spaces}
    values |= _common(state, image, own_users)
    argv = [tools["unshare"], *users, "--mount", "--net", "--pid", "--fork"]
    process = subprocess.Popen(
        [*argv, "/bin/sh", "-c", _assigned(values) + LAB],
        env={**os.environ, MARK_VARIABLE: f"{state}.lab"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Ctrl-C on the terminal is not for the lab.
        start_new_session=True,
    )
    try:
        _await_ready(process)
        lab = Lab(process.pid, tools, state, image, own_users, network, parts, visible, mounts)
        lab.attempt(shell)
        yield lab
    finally:
        # It ends by itself; killing is quicker. Its process 1 has no say in it: that one sees the pipe close.
        process.communicate()


def _await_ready(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _PATIENCE)
    if ready and process.stdout.readline() == b"ready\n":
        return
    process.kill()
    _, errors = process.communicate()
    raise _refused(_one_line(errors.decode(errors="replace")) or "the namespaces took too long")


def _refused(reason: str) -> SetupError:
    return SetupError(f"--isolate is not possible on this machine: {reason}. {_HOW}")


def tools_path() -> str:
    """Where the simulator's own tools are looked for: in PATH, which may lead to stand-ins, only at last."""
    return _SYSTEM_PATH + os.pathsep + os.environ.get("PATH", os.defpath)


def find_tools(path: str) -> dict[str, str]:
    """The paths of the programs by their names. Raises SetupError."""
    found = {}
    for tool, package in _TOOLS.items():
        program = shutil.which(tool, path=path)
        if program is None:
            raise SetupError(f"--isolate needs `{tool}`; install the package {package}")
        if os.path.basename(os.path.realpath(program)) == "busybox":
            raise SetupError(
                f"--isolate needs `{tool}` of the package {package}, and BusyBox has another one; install {package}"
            )
        found[tool] = program
    return found


def _checked(image: Path) -> Path:
    if not image.is_dir():
        raise SetupError(f"--image {image}: no such folder")
    image = image.resolve()
    if image == Path("/"):
        raise SetupError("--image /: this is this machine's own root folder; use --isolate instead")
    return image


def _common(state: Path, image: Path | None, own_users: bool) -> dict[str, str]:
    return {
        "tools": tools_path(),
        "layer": f"{state}/layer",
        "top": f"{state}/isolated",
        "base": "" if image is None else str(image),
        "own_users": "1" if own_users else "",
    }


def _bridge(network: Network) -> str:
    lines = ["link set lo up", "link add name lab type bridge"]
    lines.append(f"address add {network.gateway_ipv4} broadcast + dev lab")
    if _ipv6_there():
        lines.append(f"address add {network.gateway_ipv6} dev lab nodad")
    return "\n".join([*lines, "link set lab up"])


def _shell_lines(parts: Iterable[Part]) -> str:
    return "".join(
        shlex.join([part.kind.value, part.path, part.source, f"{part.mode:o}", part.owner]) + "\n"
        for part in parts
    )


def _assigned(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _process_limit(release: str) -> str:
    """How many processes a device may have, on a kernel of this release; "" if it can't be limited."""
    numbers = tuple(int(number) for number in re.findall(r"[0-9]+", release)[:2])
    return str(_MOST_PROCESSES) if numbers >= _LIMIT_SINCE else ""


def _ipv6_there() -> bool:
    return os.path.exists("/proc/net/if_inet6")


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
