# SPDX-License-Identifier: MIT
"""The figures that the documents state, measured: `make bench`."""

from bench import figures

figures.main()
