# SPDX-License-Identifier: MIT
"""What the fields of a report may be."""

import pytest

from dispatcher.reportable import check_report

MEASUREMENTS = {
    **dict.fromkeys(["0", "-1", "+1.5", "1.", ".5", "1e9", "1.5E-3", "00012"], True),
    **dict.fromkeys(
        ["", " ", "1 ", "1,5", "nan", "inf", "-inf", "1e999", "1_0", "0x10", "1e", ".", "\u0661", "1\n"],
        False,
    ),
}


@pytest.mark.parametrize("text", MEASUREMENTS)
def test_measurements(text: str) -> None:
    try:
        check_report("result", ("boot", "pass", text, None))
    except ValueError as error:
        assert not MEASUREMENTS[text]
        assert str(error) == f"a measurement is a number, not {text!r}"
    else:
        assert MEASUREMENTS[text]


@pytest.mark.parametrize("status", ["", "0", "-9", "255", "1.5", "x", "1" * 10, " 1"])
def test_statuses(status: str) -> None:
    if status in ("0", "-9", "255"):
        check_report("run-end", ("smoke", "", status))
    else:
        with pytest.raises(ValueError, match="a status is a whole number"):
            check_report("run-end", ("smoke", "", status))
