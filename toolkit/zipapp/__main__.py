# SPDX-License-Identifier: MIT
"""`python3 lavabox lava-send ...`: starts the box where its /bin/sh header does not."""

import os
import sys

# Absolute, since modules are still imported after somebody has changed the directory.
sys.path[0] = os.path.abspath(sys.argv[0])

from toolkit.cli import main  # noqa: E402

sys.exit(main(sys.argv, sys.path[0]))
