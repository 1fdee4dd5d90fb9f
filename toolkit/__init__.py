# SPDX-License-Identifier: MIT
"""The device side of lavabox: the lava-* commands of a test image. All of it goes into the zipapp."""

VERSION = "0.1.0"

# Names the box that this is part of, and what that was built from; set where it starts.
BUILD = b""
