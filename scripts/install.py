"""Makes this machine ready for Nephos; safe to run again, at once when nothing is missing.

    python3 scripts/install.py            packages, users, /opt/nephos
    python3 scripts/install.py --tests    also .venv in the checkout, for tests and lint
    python3 scripts/install.py --list     the Debian packages and their reasons; changes nothing

NEPHOS_PREFIX names another place than /opt/nephos.
Seconds of each part go to install.json there: {"parts": [{"name", "seconds"}], "total"}.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from installer.packages import RUNTIME, TEST, Package
from installer.report import InstallError, Report

from installer import apt, environments, system

CHECKOUT = Path(__file__).resolve().parent.parent
PREFIX = Path(os.environ.get("NEPHOS_PREFIX", "/opt/nephos"))
LOG = Path("/var/log/nephos/install.log")


def main() -> int:
    arguments = _arguments()
    wanted = [*RUNTIME, *TEST] if arguments.tests else list(RUNTIME)
    if arguments.list:
        for package in wanted:
            print(f"{package.name:28} {package.reason}")
        return 0
    if os.geteuid() != 0:
        print("install: needs root, to install packages and make the system user", file=sys.stderr)
        return 1
    if not apt.DPKG_STATUS.exists():
        print("install: this is no Debian system (no /var/lib/dpkg/status)", file=sys.stderr)
        return 1
    os.umask(0o022)
    report = Report(LOG)
    try:
        install(report, wanted, tests=arguments.tests)
    except InstallError as error:
        print(f"install: {error}\nRun it again when mended: it goes on where it stopped. Log: {LOG}", file=sys.stderr)
        return 1
    report.write(PREFIX / "install.json")
    report.say(report.summary())
    return 0


def install(report: Report, wanted: list[Package], *, tests: bool) -> None:
    """Packages and environments at the same time: one waits for dpkg, the other for downloads."""
    packages = apt.Apt(report)
    missing = apt.missing(wanted)
    early = [package for package in missing if package.name in ("python3", "ca-certificates")]
    if early:
        with report.part("python"):
            _install_packages(report, packages, early)
        missing = apt.missing(wanted)
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs: list[Future[None]] = []
        if missing:
            jobs.append(pool.submit(_install_packages, report, packages, missing))
        jobs.append(pool.submit(_environments, report, packages, tests))
        failed = [error for job in jobs if (error := job.exception()) is not None]
    if failed:
        raise failed[0]
    system.ensure(report)
    environments.link_libvirt(PREFIX)
    environments.link_commands(PREFIX)
    if tests:
        environments.link_libvirt(CHECKOUT / ".venv")


def _install_packages(report: Report, packages: apt.Apt, missing: list[Package]) -> None:
    width = max(len(package.name) for package in missing)
    for package in missing:
        report.say(f"package: {package.name:{width}}  {package.reason}")
    with report.part("packages"):
        packages.install(missing)


def _environments(report: Report, packages: apt.Apt, tests: bool) -> None:
    maker = environments.Environments(report, packages, CHECKOUT)
    with report.part("environment"):
        maker.product(PREFIX)
    if tests:
        with report.part("test environment"):
            maker.tests(CHECKOUT / ".venv")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Makes this machine ready for Nephos.")
    parser.add_argument("--tests", action="store_true", help="also make .venv in the checkout, for tests and lint")
    parser.add_argument("--list", action="store_true", help="print the packages and their reasons, change nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
