"""What all tests share: a whole server in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import engines
from tests.harness import Harness


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine", choices=engines.ENGINES, default="sqlite", help="what keeps the ledger of clouds that name none"
    )


def pytest_configure(config: pytest.Config) -> None:
    engines.DEFAULT[:] = [config.getoption("--engine")]


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Harness]:
    """A freshly seeded cloud of this test's own."""
    with Harness(tmp_path) as harness:
        yield harness
