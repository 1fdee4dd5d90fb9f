# SPDX-License-Identifier: MIT
"""Reports on a run and its results: JUnit XML, JSON, and a table. All are text; nothing here does I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher.group.results import Failure, Results
from dispatcher.view.display import Row


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to report.

    :param rows: how the devices got on; the log may know of more devices than took part this time.
    :param over: whether no device will report any more.
    """

    results: Results
    rows: Sequence[Row]
    over: bool

    @property
    def failures(self) -> list[Failure]:
        """Everything that makes the run a failure; those of kind "device" are devices that did not end well."""
        devices = [
            Failure("device", row.device, None, row.result)
            for row in self.rows
            if not (row.good or row.by_results)
        ]
        return self.results.failures(over=self.over) + devices
