"""What all tests share: a whole server in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Harness


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Harness]:
    """A freshly seeded cloud of this test's own."""
    with Harness(tmp_path) as harness:
        yield harness
