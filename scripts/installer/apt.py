"""Installs Debian packages: only what is missing, without starting a daemon, and in spite of broken sources."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from installer.packages import Package
from installer.report import InstallError, Report, tail

DPKG_STATUS = Path("/var/lib/dpkg/status")
SOURCES_FILE = Path("/etc/apt/sources.list")
SOURCES_PARTS = Path("/etc/apt/sources.list.d")
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_SAVED = Path("/usr/sbin/policy-rc.d.before-nephos")
POLICY_TEXT = "#!/bin/sh\n# made by the Nephos installer: no daemon is started or restarted by a package\nexit 101\n"

_FETCH_FAILED = re.compile(r"^(?:E|W|Err)[: ].*?(?:Failed to fetch|The repository '|GPG error:)\s*(\S+)", re.MULTILINE)
_INTERRUPTED = re.compile(r"dpkg was interrupted|--fix-broken|unmet dependencies", re.IGNORECASE)


def installed(status: str) -> set[str]:
    """Names of the packages that dpkg's status text calls installed."""
    names = set()
    for stanza in status.split("\n\n"):
        head = stanza.split("\nDescription:", 1)[0]
        if "\nStatus: install ok installed\n" in head + "\n" or "\nStatus: hold ok installed\n" in head + "\n":
            names.add(head.split("\n", 1)[0].removeprefix("Package: "))
    return names


def missing(packages: Sequence[Package]) -> list[Package]:
    """Those of `packages` that this machine lacks."""
    have = installed(DPKG_STATUS.read_text(encoding="utf-8", errors="replace"))
    return [package for package in packages if package.name not in have]


def environment(outer: Mapping[str, str]) -> dict[str, str]:
    """The environment for package tools: never asks, never restarts services, and knows the proxy.

    apt reads only the lower-case proxy variables, people often set only the upper-case ones (S1-35).
    """
    env = dict(outer)
    env.update(DEBIAN_FRONTEND="noninteractive", NEEDRESTART_SUSPEND="1", APT_LISTCHANGES_FRONTEND="none", LC_ALL="C")
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        if name not in env and env.get(name.upper()):
            env[name] = env[name.upper()]
    return env


def failing_sources(output: str) -> list[str]:
    """Addresses of the package sources that apt could not read, in order, each once."""
    return list(dict.fromkeys(match.strip("'\"") for match in _FETCH_FAILED.findall(output)))


class Apt:
    """apt-get on this machine, with `report` for words and log.

    Sources that apt cannot even parse stop every apt command; such files are named and left out for our own calls.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.env = environment(os.environ)
        self._options = ["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20"]
        self._broken: list[str] = []
        self._lists = threading.Lock()
        self._updated = False
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def install(self, packages: Sequence[Package]) -> None:
        """Installs `packages`; raises `InstallError` naming what failed."""
        names = [package.name for package in packages]
        self._offer(names)
        with no_daemons(self.report):
            done = self._install(names)
            if done is not None and _INTERRUPTED.search(done):
                self.report.say("packages: finishing an installation that was interrupted before")
                self.report.run(["dpkg", "--configure", "-a", "--force-confold"], env=self.env)
                self.report.run(self._apt("install", "--fix-broken", "--yes", "--no-install-recommends"), env=self.env)
                done = self._install(names)
            if done is not None:
                self.update()
                done = self._install(names)
        if done is not None:
            unreachable = failing_sources(done) + self._broken
            why = f"\nThese package sources fail: {', '.join(dict.fromkeys(unreachable))}" if unreachable else ""
            raise InstallError(f"apt-get could not install {' '.join(names)}:\n{done}{why}\nLog: {self.report.log}")

    def update(self) -> None:
        """Refreshes the package lists, once; a source that fails is named and stops nothing (S1-37)."""
        with self._lists:
            self._update()

    def _offer(self, names: Sequence[str]) -> None:
        """Sees to it that apt can be used and its lists hold `names`."""
        with self._lists:
            self._leave_out_malformed()
            if not self._known(names):
                self._update()

    def _update(self) -> None:
        if self._updated:
            return
        self._updated = True
        with self.report.part("package lists"):
            done = self.report.run(self._apt("update", "-o", "Acquire::Languages=none"), env=self.env)
        for source in failing_sources(done.stdout + done.stderr):
            if source not in self._broken:
                self._broken.append(source)
                self.report.warn(f"the package source {source} fails; going on without it")
        if done.returncode != 0 and not self._broken:
            self.report.warn(f"apt-get update failed:\n{tail(done)}")

    def download(self, name: str, into: Path) -> Path:
        """Fetches a package's file without installing it; works while another apt installs."""
        into.mkdir(parents=True, exist_ok=True)
        self._offer([name])
        argv = self._apt("download", "-o", "APT::Sandbox::User=root", name)
        done = self.report.run(argv, env=self.env, cwd=into)
        if done.returncode != 0:
            self.update()
            self.report.must(argv, env=self.env, cwd=into)
        return next(into.glob(f"{name}_*.deb"))

    def _apt(self, *words: str) -> list[str]:
        return ["apt-get", "-q", *self._options, *words]

    def _install(self, names: Sequence[str]) -> str | None:
        """None when all went well, else the end of what apt said."""
        done = self.report.run(
            self._apt(
                "install", "--yes", "--no-install-recommends", "--no-remove",
                "-o", "Dpkg::Options::=--force-unsafe-io", "-o", "Dpkg::Options::=--force-confold",
                "-o", "Dpkg::Options::=--force-confdef", *names,
            ),
            env=self.env,
        )  # fmt: skip
        return None if done.returncode == 0 else tail(done)

    def _known(self, names: Sequence[str]) -> bool:
        """Whether the present lists offer every one of `names`."""
        done = self.report.run(["apt-cache", *self._options, "--no-all-versions", "show", *names], env=self.env)
        offered = set(re.findall(r"^Package: (\S+)$", done.stdout, re.MULTILINE))
        return set(names) <= offered

    def _leave_out_malformed(self) -> None:
        if self._scratch is not None or self._parses(SOURCES_FILE, SOURCES_PARTS):
            return
        self._scratch = tempfile.TemporaryDirectory(prefix="nephos-sources-")
        parts = Path(self._scratch.name)
        files = [SOURCES_FILE, *sorted(SOURCES_PARTS.glob("*.list")), *sorted(SOURCES_PARTS.glob("*.sources"))]
        for file in (file for file in files if file.exists()):
            copy = parts / (file.name if file != SOURCES_FILE else "main.list")
            shutil.copy(file, copy)
            if not self._parses(Path("/dev/null"), parts):
                copy.unlink()
                self._broken.append(str(file))
                self.report.warn(f"the package source file {file} cannot be parsed; going on without it")
        self._options += ["-o", "Dir::Etc::sourcelist=/dev/null", "-o", f"Dir::Etc::sourceparts={parts}"]

    def _parses(self, main: Path, parts: Path) -> bool:
        options = ["-o", f"Dir::Etc::sourcelist={main}", "-o", f"Dir::Etc::sourceparts={parts}"]
        return self.report.run(["apt-get", *options, "indextargets"], env=self.env).returncode == 0


@contextmanager
def no_daemons(report: Report) -> Iterator[None]:
    """While inside, no package starts, stops or restarts a service (S1-38); afterwards all is as it was."""
    restore_policy()
    if POLICY.exists():
        POLICY.rename(POLICY_SAVED)
    POLICY.write_text(POLICY_TEXT, encoding="utf-8")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        restore_policy()


def restore_policy() -> None:
    """Takes back our policy-rc.d, also one left by a run that was killed."""
    if POLICY.exists() and not POLICY.is_symlink() and POLICY.read_text(errors="replace") == POLICY_TEXT:
        POLICY.unlink()
    if POLICY_SAVED.exists():
        POLICY_SAVED.rename(POLICY)
