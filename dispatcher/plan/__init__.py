# SPDX-License-Identifier: MIT
"""What is expected of a job before it runs: the calls of its scripts, the flow table, the lint."""
