# SPDX-License-Identifier: MIT
"""Where services listen: addresses with a port, and unix sockets."""

import os
import socket
import stat

from dispatcher.errors import SetupError


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT", "[HOST]:PORT" or "PORT". Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) < 65536) or not host:
        raise ValueError(f"{text!r}: write HOST:PORT, for example 127.0.0.1:3079")
    if not colon:
        return host, int(port)
    try:
        socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"{text}: {error.strerror}") from error
    return host, int(port)


def address_text(host: str, port: int) -> str:
    """The address as "HOST:PORT", or "[HOST]:PORT", as `parse_address` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen_on(path: str, mode: int) -> socket.socket:
    """A unix socket that listens at `path`, with these permissions; one that nobody serves any more is replaced.

    Raises SetupError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_stale(path)
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        os.chmod(path, mode)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise SetupError(f"can't listen on {path}: {error.strerror or error}") from error
    return listener


def _remove_stale(path: str) -> None:
    """Raises OSError if somebody serves it, or it is no socket."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(0, "it is there, and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise FileExistsError(0, "another process serves it")
