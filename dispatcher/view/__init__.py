# SPDX-License-Identifier: MIT
"""What a person sees on the terminal during a run."""
