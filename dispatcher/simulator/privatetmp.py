# SPDX-License-Identifier: MIT
"""A /tmp of its own for each device, where this machine permits mount namespaces.

Test scripts name /tmp/lava_multi_node_cache.txt and other files in /tmp outright, so two
devices on one host would read each other's. In its mount namespace a device sees the
host's /tmp through an overlay: what is there can be read, what it writes is its own. The
folders that it works in, if they lie in /tmp, stay real.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# $1: an empty folder; $2: where to go at the end; then the folders that stay real, "--", and the command.
_SCRIPT = """\
set -e
path=$PATH
PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin
state=$1 directory=$2
shift 2
mount -t tmpfs -o mode=0755 lavabox "$state"
mkdir "$state/work" "$state/tmp"
mkdir -m 1777 "$state/upper"
overlay=lowerdir=/tmp,upperdir=$state/upper,workdir=$state/work
# In a user namespace some kernels can't do without userxattr.
mount -t overlay -o "$overlay" lavabox "$state/tmp" 2>/dev/null ||
    mount -t overlay -o "$overlay,userxattr" lavabox "$state/tmp"
rm -f "$state/tmp/lava_multi_node_cache.txt" "$state/tmp/lava_multi_node_network_cache.txt"
while [ "$1" != -- ]; do
    mount --bind "$1" "$state/tmp${1#/tmp}"
    shift
done
shift
mount --rbind "$state/tmp" /tmp
cd "$directory"
PATH=$path
exec "$@"
"""
# Seconds for the attempt, which takes hundredths of one.
_PROBE_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class PrivateTmp:
    """How to start a command with a /tmp of its own."""

    unshare: tuple[str, ...]
    state: Path

    def wrap(self, argv: Sequence[str], directory: Path, real: Iterable[Path]) -> list[str]:
        """The command that starts `argv` in `directory`; the folders in `real` stay the host's."""
        kept = [str(folder) for folder in _in_tmp([directory, *real])]
        script = ["/bin/sh", "-c", _SCRIPT, "lavabox", str(self.state), str(directory), *kept, "--"]
        return [*self.unshare, *script, *argv]


def probe(state: Path, environment: Mapping[str, str]) -> PrivateTmp | str:
    """How it is done on this machine, or why it can't be done.

    :param state: an empty folder that is not used otherwise.
    """
    unshare = shutil.which("unshare", path=os.pathsep.join([environment.get("PATH", ""), "/usr/bin", "/bin"]))
    if unshare is None:
        return "there is no `unshare` (of util-linux)"
    # Root does without a user namespace, in which it would not be allowed much any more.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    private = PrivateTmp((unshare, *user, "--mount", "--propagation", "private"), state)
    try:
        done = subprocess.run(
            private.wrap(["true"], Path("/"), [state]),
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
    return private


def _in_tmp(folders: Iterable[Path]) -> list[Path]:
    """Those that lie below /tmp, each once, and none that lies in another of them."""
    resolved = {folder.resolve() for folder in folders}
    below = {folder for folder in resolved if Path("/tmp") in folder.parents}
    return sorted(folder for folder in below if below.isdisjoint(folder.parents))
