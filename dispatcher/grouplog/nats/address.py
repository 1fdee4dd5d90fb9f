# SPDX-License-Identifier: MIT
"""How the servers of a lab are named, and what they want to see of a dispatcher."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dispatcher.errors import UsageError
from dispatcher.files import open_regular, read_text
from dispatcher.group.toml import parse_toml

SCHEMES = ("nats://", "tls://")
_PORT = 4222
_LONGEST = 64
_EXAMPLE = "write nats://HOST[:PORT][,HOST...]/LAB"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are, and whom we trust. Nothing of it: the servers ask for nothing."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """A lab, and the servers (HOST:PORT) that hold its groups."""

    servers: Sequence[str]
    lab: str
    encrypted: bool = False
    credentials: Credentials = Credentials()

    def __str__(self) -> str:
        return f"{'tls' if self.encrypted else 'nats'}://{','.join(self.servers)}/{self.lab}"

    def subject(self, group: str) -> str:
        """That of a group's messages; "*" is all groups."""
        return f"lab.{self.lab}.{group}"


def is_address(text: str) -> bool:
    """Whether it names servers, and no file."""
    return text.startswith(SCHEMES)


def parse_address(text: str, credentials: Credentials | None = None) -> tuple[Address, str | None]:
    """The lab of nats://HOST,HOST/LAB[/GROUP], and the group. Raises UsageError."""
    scheme, _, rest = text.partition("://")
    hosts, _, path = rest.partition("/")
    lab, slash, group = path.partition("/")
    if "@" in hosts:
        raise UsageError(
            f"a password on the command line can be seen by others; put it into a file, and name that with "
            f"--group-log-credentials: {scheme}://{hosts.rpartition('@')[2]}/{path}"
        )
    servers = [_server(host, text) for host in hosts.split(",")]
    check_token("lab", lab)
    if slash:
        check_token("group", group)
    return Address(tuple(servers), lab, scheme == "tls", credentials or Credentials()), group or None


def _server(host: str, text: str) -> str:
    try:
        parts = urlsplit(f"//{host}")
        if not parts.hostname or parts.path or parts.query or parts.fragment:
            raise ValueError(f"{host!r} is no host")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{name}:{parts.port or _PORT}"
    except ValueError as error:
        raise UsageError(f"{text!r:.200}: {error}; {_EXAMPLE}") from None


def check_token(kind: str, name: str) -> str:
    """Return the name. Raises UsageError if a lab or a group (`kind` says which) can't be called that."""
    if not name:
        raise UsageError(f"the name of the {kind} is missing; {_EXAMPLE}, and --group GROUP")
    fits = all(character.isascii() and (character.isalnum() or character in "-_") for character in name)
    if not fits or len(name) > _LONGEST:
        raise UsageError(
            f"the name of a {kind} has letters, digits, '-' and '_', {_LONGEST} at most: {name!r:.80}"
        )
    return name


_FIELDS = {"user", "password", "token", "ca", "cert", "key"}


def read_credentials(path: Path) -> Credentials:
    """What a file in TOML says: user and password, or token; ca, cert and key name files. Raises UsageError."""
    try:
        values = parse_toml(read_text(path))
        if unknown := values.keys() - _FIELDS:
            raise ValueError(
                f"there is no {', '.join(sorted(unknown))}; known are {', '.join(sorted(_FIELDS))}"
            )
        if wrong := [name for name, value in values.items() if not isinstance(value, str)]:
            raise ValueError(f"{', '.join(wrong)}: write a text in quotes")
        if ("password" in values) != ("user" in values):
            raise ValueError("give both user and password")
        if "token" in values and "user" in values:
            raise ValueError("give user and password, or token, not both")
        return Credentials(
            values.get("user"), values.get("password"), values.get("token"), _tls(values, path.parent)
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"--group-log-credentials {path}: {error}") from error


def _tls(values: dict[str, str], folder: Path) -> ssl.SSLContext | None:
    """Raises OSError or ValueError. Names of files are relative to the folder."""
    if not values.keys() & {"ca", "cert", "key"}:
        return None
    if ("cert" in values) != ("key" in values):
        raise ValueError("give both cert and key")
    for name in ("ca", "cert", "key"):
        if name in values:
            # OpenSSL would wait for whoever writes to a named pipe.
            open_regular(folder / values[name]).close()
    context = ssl.create_default_context(cafile=str(folder / values["ca"]) if "ca" in values else None)
    if "cert" in values:
        context.load_cert_chain(folder / values["cert"], folder / values["key"])
    return context
