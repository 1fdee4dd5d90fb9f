# SPDX-License-Identifier: MIT
"""`python3 -m dispatcher` is `lavabox`."""

import sys

from dispatcher.cli import main

if __name__ == "__main__":
    sys.exit(main())
