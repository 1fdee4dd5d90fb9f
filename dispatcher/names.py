# SPDX-License-Identifier: MIT
"""What devices and roles may be called: names travel in lines, file names and command lines."""

from dispatcher.errors import UsageError

# A file name may have 255 bytes.
_LONGEST = 64


def check_name(kind: str, name: str) -> str:
    """Return the name. Raises UsageError if a device or role (`kind` says which) can't be called that."""
    if not name:
        raise UsageError(f"the name of the {kind} is missing")
    if len(name) > _LONGEST:
        raise UsageError(f"the name of a {kind} has at most {_LONGEST} characters, not {len(name)}")
    if name.startswith("-"):
        raise UsageError(f"the name of a {kind} can't begin with '-': {name!r}")
    for character in name:
        if character.isspace() or not character.isprintable() or character in "/:=":
            raise UsageError(f"the name of a {kind} can't have {character!r} in it: {name!r}")
    return name


def check_no_duplicates(names: list[str]) -> None:
    """Raises UsageError if two devices have the same name."""
    seen = set()
    for name in names:
        if name in seen:
            raise UsageError(f"two devices are called {name}; give one another name")
        seen.add(name)
