# SPDX-License-Identifier: MIT
"""Where distributions differ: what they call themselves, and how they handle packages.

All of it is in MANAGERS. To add a distribution, name its ID of os-release(5) in
the row of its package manager, or add a row.
"""

import os

from .processes import find, output_of
from .wire.vocabulary import NO, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
# Of systems without these.
OTHER_NAMES = ("/etc/system-release", "/etc/redhat-release", "/etc/slackware-version", "/etc/issue")


class Manager:
    """A package manager.

    `ids` are those of the distributions whose own it is; the first word of `install` is its
    program. `update` reads the lists of packages anew. `listing` prints what is
    installed, and `entry` makes name and version of one line of that. `apt` is whether it has
    keys and sources as apt has.
    """

    __slots__ = ("apt", "entry", "ids", "install", "listing", "update")

    def __init__(
        self,
        ids: str,
        install: str,
        update: str,
        listing: str,
        entry: "Callable[[str], tuple[str, str]]",
        apt: bool = False,
    ) -> None:
        self.ids = ids.split()
        self.install = install.split()
        self.update = update.split()
        self.listing = listing.split()
        self.entry = entry
        self.apt = apt


def _two_words(line: str) -> "tuple[str, str]":
    """bash 5.2-1, with a space or a tab"""
    name, version = (line.split(None, 1) + [""])[:2]
    return name, version


def _dash(line: str) -> "tuple[str, str]":
    """bash - 5.2-r0"""
    name, _, version = line.partition(" - ")
    return name, version.partition(" - ")[0]


def _last_two(line: str) -> "tuple[str, str]":
    """bash-completion-5.2-r0"""
    name, version, release = (line.rsplit("-", 2) + ["", ""])[:3]
    return name, version + "-" + release


def _last_three(line: str) -> "tuple[str, str]":
    """bash-completion-5.2-x86_64-1"""
    name, version = (line.rsplit("-", 3) + [""])[:2]
    return name, version


_RPM = r"rpm -qa --qf %{NAME}\t%{VERSION}-%{RELEASE}\n"

MANAGERS = (
    Manager(
        "debian ubuntu apertis raspbian",
        "apt-get -q -y install",
        "apt-get -q update",
        r"dpkg-query -W -f ${Package}\t${Version}\n",
        _two_words,
        apt=True,
    ),
    Manager("fedora rhel centos", "dnf -y install", "", _RPM, _two_words),
    Manager("rhel centos fedora", "yum -y install", "", _RPM, _two_words),
    Manager("suse opensuse sles", "zypper --non-interactive install", "", _RPM, _two_words),
    Manager(
        "poky openembedded nodistro openwrt", "opkg install", "opkg update", "opkg list-installed", _dash
    ),
    Manager("arch", "pacman -S --noconfirm --needed", "pacman -Sy --noconfirm", "pacman -Q", _two_words),
    Manager("alpine", "apk add", "apk update", "apk info -v", _last_two),
    Manager(
        "slackware",
        "slackpkg -batch=on -default_answer=y install",
        "slackpkg -batch=on -default_answer=y update",
        "ls /var/log/packages",
        _last_three,
    ),
)

# Not to be asked anything.
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive"}


def os_release() -> "dict[str, str]":
    """What the system says of itself; empty where it says nothing."""
    for path in OS_RELEASE:
        try:
            with open(path, "rb") as file:
                text = file.read().decode("utf-8", "replace")
        except OSError:
            continue
        pairs = [line.strip().partition("=") for line in text.splitlines()]
        return {key: _unquoted(value) for key, equals, value in pairs if equals and not key.startswith("#")}
    return {}


def _unquoted(value: str) -> str:
    """A value as a shell would read it: in quotes of one kind, or bare."""
    if value[:1] in ("'", '"') and value.endswith(value[:1]) and len(value) > 1:
        value = value[1:-1]
    for character in '\\"$`':
        value = value.replace("\\" + character, character)
    return value


def package_manager(environ: "Mapping[str, str]") -> "Manager | None":
    """That of this distribution; or of one that it is like; or any whose program is here."""
    release = os_release()
    here = [manager for manager in MANAGERS if find(manager.install[0], environ)]
    for name in [release.get("ID", "")] + release.get("ID_LIKE", "").split():
        for manager in here:
            if name in manager.ids:
                return manager
    return here[0] if here else None


def installed_packages(manager: Manager, environ: "Mapping[str, str]") -> "list[tuple[str, str]]":
    """Names and versions. Raises CommandError where they cannot be listed."""
    status, output = output_of(manager.listing, environ)
    if status:
        raise CommandError(NO, "`%s` ended with status %d" % (" ".join(manager.listing), status))
    lines = output.decode("utf-8", "surrogateescape").splitlines()
    return [manager.entry(line) for line in lines if line.strip()]


def description() -> str:
    """One line that names the system."""
    release = os_release()
    name = (
        release.get("PRETTY_NAME") or " ".join([release.get("NAME", ""), release.get("VERSION", "")]).strip()
    )
    if name:
        return name
    for path in OTHER_NAMES:
        try:
            with open(path, "rb") as file:
                line = file.readline().decode("utf-8", "replace").partition("\\")[0].strip()
        except OSError:
            continue
        if line:
            return line
    system = os.uname()
    return "%s %s %s" % (system.sysname, system.release, system.machine)
