# SPDX-License-Identifier: MIT
"""The commands of `lavabox`: their arguments, and nothing else."""
