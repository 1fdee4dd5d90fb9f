# SPDX-License-Identifier: MIT
"""Reports on a run and its results: JUnit XML, JSON, and a table. All are text; nothing here does I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dispatcher.group.results import Case, Failure, Results
from dispatcher.view.display import Row


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to report.

    :param rows: how the devices got on; the log may know of more devices than took part this time.
    :param over: whether no device will report any more.
    :param logs: the folder of the console logs; None: there are none.
    :param output: what failed tests have printed, by their results, as far as that is known.
    """

    results: Results
    rows: Sequence[Row]
    over: bool
    logs: str | None = None
    output: Mapping[Case, bytes] = field(default_factory=dict)

    @property
    def failures(self) -> list[Failure]:
        """Everything that makes the run a failure; those of kind "device" are devices that did not end well."""
        devices = [
            Failure("device", row.device, None, row.result)
            for row in self.rows
            if not (row.good or row.by_results)
        ]
        return self.results.failures(over=self.over) + devices
