# SPDX-License-Identifier: MIT
"""Measurements, as ratios side by side in one run; nothing here passes or fails."""
