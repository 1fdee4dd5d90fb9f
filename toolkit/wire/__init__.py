# SPDX-License-Identifier: MIT
"""The protocol between device and host, in one definition that both ends use. Bytes in, bytes out: no I/O."""
