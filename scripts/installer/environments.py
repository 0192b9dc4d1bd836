"""Builds the two Python environments: /opt/nephos, which runs, and .venv in the checkout, for tests and lint."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from installer import apt
from installer.report import InstallError, Report

PYTHON = Path("/usr/bin/python3")
OLDEST = (3, 11)
DEBIAN_PACKAGES = Path("/usr/lib/python3/dist-packages")
DEBIAN_PIP = "usr/share/python-wheels"
TOOLS = Path("/var/cache/nephos/tools")
STAMP = ".nephos-stamp"
EXTRA = "clients"
"""The extra that holds what the demo and the printed examples use: openstacksdk and the openstack command."""

COMMANDS = Path("/usr/local/bin")
LIBVIRT = ("libvirt.py", "libvirt_qemu.py", "libvirtaio.py", "libvirtmod*.so")


def environment() -> dict[str, str]:
    """The environment for uv and pip: pip's own settings for a mirror and a certificate hold for uv too."""
    env = apt.environment(os.environ)
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_PYTHON", "PYENV_VERSION", "CONDA_PREFIX"):
        env.pop(name, None)
    if "PIP_INDEX_URL" in env:
        env.setdefault("UV_DEFAULT_INDEX", env["PIP_INDEX_URL"])
    if "PIP_CERT" in env:
        env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
    env.setdefault("UV_HTTP_TIMEOUT", "60")
    env.setdefault("UV_SYSTEM_CERTS", "1")
    env["UV_NO_PROGRESS"] = "1"
    return env


def python_version() -> str:
    """The system interpreter's version, as 3.11.2; raises `InstallError` when it is too old."""
    said = subprocess.run([str(PYTHON), "-c", "import platform; print(platform.python_version())"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    if tuple(int(part) for part in said.split(".")[:2]) < OLDEST:
        raise InstallError(f"{PYTHON} is Python {said}; Nephos needs 3.11 or newer (Debian 12 has it)")
    return said


def _files(checkout: Path) -> Iterator[Path]:
    yield from (checkout / name for name in ("pyproject.toml", "README.md"))
    for folder, folders, names in os.walk(checkout / "src"):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(folder, name) for name in names if not name.endswith(".pyc"))


def digest(files: Iterator[Path], *also: str) -> str:
    """A hash of names, modes and contents, and of `also`."""
    total = hashlib.sha256(json.dumps(also).encode())
    for file in sorted(files):
        if file.is_file():
            total.update(f"{file}\0{file.stat().st_mode & 0o111}\0".encode())
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


class Environments:
    """Makes environments out of `checkout`; does nothing where the stamp says that nothing changed."""

    def __init__(self, report: Report, packages: apt.Apt, checkout: Path) -> None:
        self.report = report
        self.packages = packages
        self.checkout = checkout
        self.env = environment()
        self._version = python_version()

    def product(self, prefix: Path) -> bool:
        """Installs the checkout (not editable) into `prefix`; true when something was done."""
        before = _read(prefix / STAMP)
        needs = digest(iter([self.checkout / "pyproject.toml"]), self._version)
        stamp = f"{needs} {digest(_files(self.checkout), self._version)}"
        whole = _usable(prefix) and before.startswith(needs)
        if whole and before == stamp:
            return False
        uv = self._uv()
        if whole:
            self.report.say(f"environment: the sources changed, installing them into {prefix}")
            install = ["--no-deps", "--reinstall-package", "nephos"]
        else:
            self.report.say(f"environment: {prefix}, with the libraries that pyproject.toml names")
            if not _usable(prefix):  # one that works is changed in place: a failed download must not leave less behind
                self._create(uv, prefix)
            install = ["--upgrade-package", "nephos", "--reinstall-package", "nephos"]
        (prefix / STAMP).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(prefix="nephos-source-") as scratch:
            source = self._clean_copy(Path(scratch) / "nephos")
            argv = [uv, "pip", "install", "--python", str(prefix / "bin/python"), *install, "--compile-bytecode"]
            self.report.must([*argv, f"{source}[clients]"], env=self.env)
        _open_to_all(prefix)
        (prefix / STAMP).write_text(stamp, encoding="utf-8")
        return True

    def tests(self, prefix: Path) -> bool:
        """Installs the checkout (editable) with the groups test and lint; true when something was done."""
        stamp = digest(iter([self.checkout / "pyproject.toml"]), self._version)
        if _usable(prefix) and _read(prefix / STAMP) == stamp:
            return False
        uv = self._uv()
        self.report.say(f"environment: {prefix}, for tests and lint")
        if not _usable(prefix):
            self._create(uv, prefix)
        argv = [uv, "pip", "install", "--python", str(prefix / "bin/python"), "--editable", str(self.checkout)]
        groups = [word for name in ("test", "lint") for word in ("--group", f"{self.checkout}/pyproject.toml:{name}")]
        self.report.must([*argv, *groups], env=self.env, cwd=self.checkout)
        (prefix / STAMP).write_text(stamp, encoding="utf-8")
        return True

    def _create(self, uv: str, prefix: Path) -> None:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        self.report.must([uv, "venv", "--clear", "--no-project", "--python", str(PYTHON), str(prefix)], env=self.env)

    def _clean_copy(self, into: Path) -> Path:
        """A copy of what goes into the package, so that a build never writes into the checkout."""
        for file in _files(self.checkout):
            if file.is_file():
                target = into / file.relative_to(self.checkout)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        return into

    def _uv(self) -> str:
        """Path of a working uv: it resolves and installs several times faster than pip."""
        for candidate in (TOOLS / "uv", self.checkout / ".venv/bin/uv"):
            if _runs([str(candidate), "--version"]):
                return str(candidate)
        with self.report.part("uv"), tempfile.TemporaryDirectory(prefix="nephos-uv-") as scratch:
            pip, env = self._pip(Path(scratch))
            argv = [*pip, "download", "--no-deps", "--only-binary", ":all:", "-q", "-d", scratch, "uv"]
            self.report.must(argv, env=env)
            wheel = next(Path(scratch).glob("uv-*.whl"))
            TOOLS.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(wheel) as archive:
                inside = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
                fresh = TOOLS / "uv.new"
                fresh.write_bytes(archive.read(inside))
            fresh.chmod(0o755)
            fresh.replace(TOOLS / "uv")
        return str(TOOLS / "uv")

    def _pip(self, scratch: Path) -> tuple[list[str], dict[str, str]]:
        """A pip to fetch uv with: one that is there, or Debian's wheel of it, used without installing it."""
        for python in (str(PYTHON), sys.executable):
            if _runs([python, "-m", "pip", "--version"], self.env):
                return [python, "-m", "pip"], self.env
        package = self.packages.download("python3-pip-whl", scratch)
        self.report.must(["dpkg", "-x", str(package), str(scratch / "pip")])
        wheel = next((scratch / "pip" / DEBIAN_PIP).glob("pip-*.whl"))
        return [str(PYTHON), "-m", "pip"], {**self.env, "PYTHONPATH": str(wheel)}


def link_libvirt(prefix: Path) -> None:
    """Links Debian's libvirt binding into an environment, so that none is compiled."""
    site = next((prefix / "lib").glob("python3*/site-packages"))
    for pattern in LIBVIRT:
        for target in DEBIAN_PACKAGES.glob(pattern):
            link = site / target.name
            if not (link.is_symlink() and link.readlink() == target):
                link.unlink(missing_ok=True)
                link.symlink_to(target)
    if not (site / "libvirt.py").exists():
        raise InstallError(f"python3-libvirt is installed, but {DEBIAN_PACKAGES}/libvirt.py is not there")


def link_commands(prefix: Path) -> None:
    """Puts `nephos`, and `openstack` where the machine has none of its own, on everybody's path."""
    for name in ("nephos", "openstack"):
        link = COMMANDS / name
        target = prefix / "bin" / name
        ours = link.is_symlink() and link.readlink() == target
        taken = link.exists() or link.is_symlink() or (name == "openstack" and shutil.which(name) is not None)
        if target.exists() and not ours and not taken:
            COMMANDS.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)


def _usable(prefix: Path) -> bool:
    return (prefix / "pyvenv.cfg").exists() and os.access(prefix / "bin/python", os.X_OK)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _runs(argv: list[str], env: dict[str, str] | None = None) -> bool:
    try:
        return subprocess.run(argv, env=env, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _open_to_all(prefix: Path) -> None:
    """The server's own user reads the environment, whatever root's umask was when a file was cached."""
    for folder, _folders, names in os.walk(prefix):
        for path in [Path(folder), *(Path(folder, name) for name in names)]:
            if not path.is_symlink():
                mode = path.stat().st_mode
                wanted = (mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444)) & ~0o022
                if wanted != mode:
                    path.chmod(wanted & 0o7777)
