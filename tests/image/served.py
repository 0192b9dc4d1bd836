"""What Granian serves in `test_over_http`: a whole cloud on the state that NEPHOS_TEST_STATE names."""

from __future__ import annotations

import os
from pathlib import Path

from nephos.kernel.http.front import Front
from tests.harness import Harness


def application() -> Front:
    return Harness(Path(os.environ["NEPHOS_TEST_STATE"])).front
