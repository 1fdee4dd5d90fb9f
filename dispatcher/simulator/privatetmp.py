# SPDX-License-Identifier: MIT
"""A /tmp of its own for each device, where this machine permits mount namespaces.

Test scripts name /tmp/lava_multi_node_cache.txt and other files in /tmp outright, so two
devices on one host would read each other's. In its mount namespace a device sees the
host's /tmp through an overlay: what is there can be read, what it writes is its own.

Some things stay real, as the device would not see them otherwise, or not be able to use them: the folders that
it works in, file systems that are mounted below /tmp, and sockets on which somebody listens there (of an
ssh-agent, an X server, a terminal multiplexer).

The folder of a device that was made for it, and has files in common with those of others, is seen through an overlay
as well. What the device writes there stays over its reboots.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dispatcher.simulator.isolation import tools_path
from dispatcher.simulator.rootfolder import mount_points

# $1: an empty folder; $2: where to go at the end; $3: PATH for this script; $4: where what is written to $2 goes, or
# nothing; then what stays real, "--", and the command.
_SCRIPT = """\
set -e
device_path=$PATH
state=$1 directory=$2 PATH=$3 written=$4
shift 4
# In a user namespace some kernels can't do without userxattr.
overlay() { mount -t overlay -o "$1" lavabox "$2" 2>/dev/null || mount -t overlay -o "$1,userxattr" lavabox "$2"; }
[ -z "$written" ] || overlay "lowerdir=$directory,upperdir=$written/upper,workdir=$written/work" "$directory"
mount -t tmpfs -o mode=0755 lavabox "$state"
cd "$state"
mkdir work tmp
mkdir -m 1777 upper
overlay lowerdir=/tmp,upperdir=upper,workdir=work tmp
rm -f tmp/lava_multi_node_cache.txt tmp/lava_multi_node_network_cache.txt
while [ "$1" != -- ]; do
    # What has gone since it was found is nothing to fail for, nor what goes right now.
    [ ! -e "$1" ] || said=$(mount --rbind "$1" "tmp${1#/tmp}" 2>&1) || [ ! -e "$1" ] || { echo "$said" >&2; exit 1; }
    shift
done
shift
mount --rbind tmp /tmp
cd "$directory"
PATH=$device_path
exec "$@"
"""
# Seconds for the attempt, which takes hundredths of one.
_PROBE_TIMEOUT = 20.0
_TMP = Path("/tmp")


@dataclass(frozen=True, slots=True)
class PrivateTmp:
    """How to start a command with a /tmp of its own.

    `layered` is whether what it writes to its folder can be kept apart.
    """

    unshare: tuple[str, ...]
    state: Path
    real: Sequence[Path]
    layered: bool = True

    def wrap(
        self, argv: Sequence[str], directory: Path, real: Iterable[Path], written: Path | None = None
    ) -> list[str]:
        """The command that starts `argv` in `directory`; this folder and those in `real` stay the host's.

        :param written: where what it writes to `directory` goes instead; with `layered` only. Raises OSError.
        """
        kept = map(str, outermost_in_tmp([directory, *real, *self.real]))
        if written is not None:
            for name in ("upper", "work"):
                (written / name).mkdir(parents=True, exist_ok=True)
        script = ["/bin/sh", "-c", _SCRIPT, "lavabox", str(self.state), str(directory), tools_path()]
        return [*self.unshare, *script, str(written or ""), *kept, "--", *argv]


def probe(state: Path, environment: Mapping[str, str]) -> PrivateTmp | str:
    """How it is done on this machine, or why it can't be done.

    :param state: an empty folder that is not used otherwise.
    :param environment: of a device.
    """
    unshare = shutil.which("unshare", path=tools_path())
    if unshare is None:
        return "there is no `unshare` (of util-linux)"
    # Root does without a user namespace, in which it would not be allowed much any more.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    found = [*mount_points(_read("/proc/self/mountinfo")), *listening_sockets(_read("/proc/net/unix"))]
    real = [path for path in found if _TMP in path.parents]
    private = PrivateTmp((unshare, *user, "--mount", "--propagation", "private"), state, real)
    trial = Path(tempfile.mkdtemp(prefix="trial-", dir=state.parent))
    (trial / "folder").mkdir()
    why = _attempt(private.wrap(["/bin/sh", "-c", ":"], trial / "folder", [state], trial), environment)
    if why is not None:
        # The file system of temporary files may be one that no overlay writes to, such as an overlay.
        private = replace(private, layered=False)
        why = _attempt(private.wrap(["/bin/sh", "-c", ":"], Path("/"), [state]), environment)
    return why or private


def _attempt(argv: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Why the command fails; None if it does not."""
    try:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode != 0:
        return " ".join(done.stderr.split()) or f"`unshare` ended with status {done.returncode}"
    return None


def outermost_in_tmp(paths: Iterable[Path]) -> list[Path]:
    """Those that lie below /tmp, each once, and none that lies in another of them."""
    resolved = {path.resolve() for path in paths}
    below = {path for path in resolved if _TMP in path.parents}
    return sorted(path for path in below if below.isdisjoint(path.parents))


def listening_sockets(table: str) -> list[Path]:
    """The paths of the sockets that have one, in the text of /proc/net/unix."""
    # Num RefCount Protocol Flags Type St Inode Path; those of connections to them have the same path.
    lines = (line.split(maxsplit=7) for line in table.splitlines()[1:])
    return sorted({Path(fields[7]) for fields in lines if len(fields) == 8 and fields[7].startswith("/")})


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
