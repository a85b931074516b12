"""The matrix of faults, printed after the tests, also when several processes ran them."""

from __future__ import annotations

from typing import Any

from fault_bench import Trial, table


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    trials = [
        Trial(**trial)
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, found in report.user_properties
        if name == "trials"
        for trial in found
    ]
    if trials:
        terminalreporter.section("faults, and the laser's pin")
        for line in table(trials):
            terminalreporter.write_line(line)
