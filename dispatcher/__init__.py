# SPDX-License-Identifier: MIT
"""The host side of lavabox: what reads the devices' consoles, answers their commands and keeps the group."""
