# SPDX-License-Identifier: MIT
"""One group of devices, folded from the events of its log. No I/O, clock or randomness."""
