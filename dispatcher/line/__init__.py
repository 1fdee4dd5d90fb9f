# SPDX-License-Identifier: MIT
"""The console line as the host sees it: bytes in, output and requests out. No I/O, clock or randomness."""
