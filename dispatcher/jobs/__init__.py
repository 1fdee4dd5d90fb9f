# SPDX-License-Identifier: MIT
"""LAVA's job files and test definitions: read, checked, and made into what a simulated device runs."""
