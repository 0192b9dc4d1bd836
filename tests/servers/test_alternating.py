"""The contracts again, with two servers on one PostgreSQL, or MariaDB, that answer in turn: whatever one server was told
the other knows at the next request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import engines
from tests.contract.test_contract import hold
from tests.servers.alternating import Alternating

CONTRACTS = Path(__file__).parents[1] / "contract"
FILES = sorted(CONTRACTS.glob("*/*.yaml"))


@pytest.mark.parametrize("engine", [name for name in engines.ENGINES if name != "sqlite"])
@pytest.mark.parametrize("contract", FILES, ids=[str(file.relative_to(CONTRACTS).with_suffix("")) for file in FILES])
def test_two_servers_hold_it(contract: Path, engine: str, tmp_path: Path) -> None:
    with engines.ledger(engine, tmp_path) as url, Alternating(tmp_path, url) as cloud:
        hold(cloud, contract)
