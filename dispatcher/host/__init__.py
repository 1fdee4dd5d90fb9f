# SPDX-License-Identifier: MIT
"""The shell around the pure parts: consoles, logs, timers, signals. All of the host's I/O."""
