"""A plugin of pytest: a failure is shown when it happens, because the end of an emulated run is far."""

from __future__ import annotations

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        print(f"\n{report.longreprtext}", flush=True)
