"""Two servers on one ledger that answer in turn, as behind a load balancer."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

from tests.harness import Harness


class Alternating(Harness):
    """A harness whose every request reaches the other server than the one before."""

    def __init__(self, path: Path, database: str) -> None:
        super().__init__(path, database=database)
        self.other = Harness(path, database=database)
        turns = cycle((self.front, self.other.front))

        def front(environ: dict[str, Any], start: Any) -> Any:
            return next(turns)(environ, start)

        self.front = front  # type: ignore[assignment]

    def __exit__(self, *about: object) -> None:
        self.other.__exit__(*about)
        super().__exit__(*about)
