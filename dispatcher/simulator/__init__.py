# SPDX-License-Identifier: MIT
"""The simulator: devices that are shells on ptys here, with the real box and the real dispatcher."""
