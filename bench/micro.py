"""What a request pays in process before its handler runs: the token and the policy. Part of `make bench`; alone:

    bench/micro.py [--json]

Each figure is the best of several runs of a tenth of a second, so that what else the machine does counts little.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from nephos import app
from nephos.identity import part
from nephos.identity.tokens import actions, login
from nephos.identity.tokens.wire import Auth, IdentityPart, PasswordMethod, ProjectRef, Scope, UserRef
from nephos.kernel.cloud import Cloud
from nephos.kernel.db import migrate
from nephos.settings import Settings

RUNS, SECONDS = 7, 0.1
PASSWORD = "bench"


def main() -> int:
    figures = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<40}{value:>14,.2f}")
    return 0


def measure() -> dict[str, float]:
    """Figure name → value, in the units of docs/spec.md."""
    with tempfile.TemporaryDirectory(prefix="nephos-micro-") as folder:
        (Path(folder) / "server").mkdir()
        figures = {}
        for provider in ("fernet", "jws"):
            settings = Settings(state=Path(folder), hypervisor="fake")
            settings.tokens.bcrypt_rounds, settings.tokens.provider = 4, provider
            cloud = app.compose(settings)
            migrate.upgrade(cloud.database.engine)
            app.seed(cloud, {"admin": PASSWORD, "demo": PASSWORD})
            figures.update(_tokens(cloud, provider))
            if provider == "fernet":
                figures.update(_policy(cloud))
            cloud.database.close()
    return figures


def _tokens(cloud: Cloud, provider: str) -> dict[str, float]:
    identity, text = part.of(cloud), _log_in(cloud)

    def unknown() -> None:
        identity._known.clear()
        cloud.verify(text, None)

    return {
        f"{provider}_known_token_per_s": 1 / _best(lambda: cloud.verify(text, None)),
        f"{provider}_token_opened_per_s": 1 / _best(lambda: identity.tokens.decode(text)),
        f"{provider}_unknown_token_per_s": 1 / _best(unknown),
    }


def _policy(cloud: Cloud) -> dict[str, float]:
    """The rule of showing a server, one of the commonest, yes and no; and all rules there are, one after the other."""
    who = cloud.verify(_log_in(cloud), None)
    own, other = {"project_id": who.project_id}, {"project_id": "another"}
    rule = "os_compute_api:servers:show"
    assert cloud.policies.allows(rule, who, own) and not cloud.policies.allows(rule, who, other)
    names = [name for policy in cloud.policies.of.values() for name in policy.names() if name in cloud.policies]
    allows = cloud.policies.allows

    def every() -> None:
        for name in names:
            allows(name, who, other)

    return {
        "policy_check_us": max(_best(lambda: allows(rule, who, own)), _best(lambda: allows(rule, who, other))) * 1e6,
        "policy_check_mean_us": _best(every) / len(names) * 1e6,
    }


def _log_in(cloud: Cloud) -> str:
    user = UserRef(name="demo", password=PASSWORD)
    with cloud.database.read() as tx:
        user.domain = actions.domain_ref(tx, "Default")
        project = actions.project_ref(tx, "demo", "Default")
    proof = IdentityPart(methods=["password"], password=PasswordMethod(user=user))
    scope = Scope(project=ProjectRef(name=project.name, domain=project.domain))
    return login.log_in(cloud, part.of(cloud), Auth(identity=proof, scope=scope))[0]


def _best(call: Callable[[], object]) -> float:
    """Seconds of one call, in the quickest of the runs. The loop itself is not taken off."""
    call()
    began = time.perf_counter()
    call()
    count = max(1, int(SECONDS / max(time.perf_counter() - began, 1e-7)))
    best = float("inf")
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter() - began) / count)
    return best


if __name__ == "__main__":
    sys.exit(main())
