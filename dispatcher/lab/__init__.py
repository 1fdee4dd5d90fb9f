# SPDX-License-Identifier: MIT
"""A lab that is served for months: its devices, their logs, and what people and other tools reach them by."""
