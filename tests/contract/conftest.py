"""Every YAML file below this folder is one contract: a list of steps run in order against a cloud of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "contract" in metafunc.fixturenames:
        files = sorted(HERE.glob("*/*.yaml"))
        metafunc.parametrize("contract", files, ids=[str(file.relative_to(HERE).with_suffix("")) for file in files])
