"""The installer's judgements: what is missing, which source fails, what changed; and that it puts back what it moves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

from installer.report import InstallError, Report  # noqa: E402

from installer import apt, environments, packages  # noqa: E402

STATUS = """Package: alpha
Status: install ok installed
Version: 1

Package: beta
Status: deinstall ok config-files
Version: 1

Package: gamma
Status: install ok half-configured
Description: names Status: install ok installed
 in its text

Package: delta
Essential: yes
Status: hold ok installed
"""


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "log" / "install.log")


def test_only_what_is_wholly_installed_counts() -> None:
    assert apt.installed(STATUS) == {"alpha", "delta"}


def test_this_machine_has_what_the_installer_wants_and_it_says_why() -> None:
    assert apt.missing(packages.RUNTIME) == []
    said = subprocess.run(
        [sys.executable, SCRIPTS / "install.py", "--list"], capture_output=True, text=True, check=True
    )
    for package in packages.RUNTIME:
        assert f"{package.name} " in said.stdout
        assert package.reason in said.stdout


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (
            "Err:5 http://127.0.0.1:9/debian bookworm InRelease\n"
            "W: Failed to fetch http://127.0.0.1:9/debian/dists/bookworm/InRelease  Could not connect to 127.0.0.1:9\n"
            "W: Some index files failed to download. They have been ignored, or old ones used instead.\n",
            ["http://127.0.0.1:9/debian/dists/bookworm/InRelease"],
        ),
        (
            "E: The repository 'https://example.org/x stable Release' does not have a Release file.\n",
            ["https://example.org/x"],
        ),
        ("W: GPG error: https://example.org/y stable InRelease: no public key\n", ["https://example.org/y"]),
        ("Get:1 http://mirror.example.org/debian bookworm InRelease\nReading package lists...\n", []),
    ],
)
def test_the_failing_source_is_named(said: str, named: list[str]) -> None:
    assert apt.failing_sources(said) == named


def test_a_proxy_in_capitals_reaches_apt_and_a_mirror_of_pip_reaches_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    env = apt.environment(
        {"HTTPS_PROXY": "http://proxy:3128", "http_proxy": "http://other:1", "HTTP_PROXY": "http://x:2"}
    )
    assert env["https_proxy"] == "http://proxy:3128"
    assert env["http_proxy"] == "http://other:1"
    assert env["DEBIAN_FRONTEND"] == "noninteractive"
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("VIRTUAL_ENV", "/somewhere")
    env = environments.environment()
    assert env["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert "VIRTUAL_ENV" not in env


@pytest.mark.parametrize("before", [None, "#!/bin/sh\n# the administrator's own\nexit 0\n"])
def test_the_policy_about_services_is_put_back(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(apt, "POLICY", policy)
    monkeypatch.setattr(apt, "POLICY_SAVED", tmp_path / "saved")
    if before is not None:
        policy.write_text(before)

    def as_before() -> bool:
        return (policy.read_text() if policy.exists() else None) == before and not (tmp_path / "saved").exists()

    with pytest.raises(InstallError), apt.no_daemons(report):
        assert subprocess.run(["sh", policy], check=False).returncode == 101
        raise InstallError("apt failed")
    assert as_before()
    killed = apt.no_daemons(report)
    killed.__enter__()
    assert not as_before()
    with apt.no_daemons(report):
        pass
    assert as_before()
    killed.gen.close()


def test_a_change_of_any_source_is_seen_and_of_nothing_else_is_not(tmp_path: Path) -> None:
    (tmp_path / "src/nephos/__pycache__").mkdir(parents=True)
    source = tmp_path / "src/nephos/a.py"
    source.write_text("one")
    (tmp_path / "pyproject.toml").write_text("[project]")

    def digest() -> str:
        return environments.digest(environments._files(tmp_path), "3.11.2")

    first = digest()
    (tmp_path / "src/nephos/__pycache__/a.pyc").write_text("compiled")
    (tmp_path / "notes.txt").write_text("elsewhere")
    assert digest() == first
    source.write_text("two")
    assert digest() != first
    source.write_text("one")
    assert digest() == first
    source.chmod(0o755)
    assert digest() != first


def test_commands_go_on_the_path_and_take_nobodys_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = tmp_path / "opt"
    (prefix / "bin").mkdir(parents=True)
    for name in ("nephos", "openstack"):
        (prefix / "bin" / name).write_text("#!/bin/sh\n")
        (prefix / "bin" / name).chmod(0o755)
    monkeypatch.setattr(environments, "COMMANDS", tmp_path / "commands")
    other = tmp_path / "other"
    other.mkdir()
    (other / "openstack").write_text("#!/bin/sh\n")
    (other / "openstack").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    environments.link_commands(prefix)
    assert [path.name for path in (tmp_path / "commands").iterdir()] == ["nephos"]
    monkeypatch.setenv("PATH", str(tmp_path / "commands"))
    environments.link_commands(prefix)
    environments.link_commands(prefix)
    assert (tmp_path / "commands/openstack").readlink() == prefix / "bin/openstack"
    (tmp_path / "commands/nephos").unlink()
    (tmp_path / "commands/nephos").write_text("mine")
    environments.link_commands(prefix)
    assert (tmp_path / "commands/nephos").read_text() == "mine"


def test_what_a_colder_umask_left_closed_is_opened_and_nothing_is_left_writable(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir(mode=0o700)
    closed, program, wide = tmp_path / "lib/a.py", tmp_path / "lib/tool", tmp_path / "lib/wide"
    for path, mode in ((closed, 0o600), (program, 0o700), (wide, 0o666)):
        path.write_text("x")
        path.chmod(mode)
    environments._open_to_all(tmp_path)
    modes = [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "lib", closed, program, wide)]
    assert modes == ["0o755", "0o644", "0o755", "0o644"]


def test_a_failed_command_raises_with_its_own_words(report: Report) -> None:
    with pytest.raises(InstallError, match=r"(?s)exit 3.*it broke"):
        report.must(["sh", "-c", "echo it broke >&2; exit 3"])
    assert "it broke" in report.log.read_text()
    with report.part("something"):
        pass
    assert [part["name"] for part in report.seconds()["parts"]] == ["something"]  # type: ignore[attr-defined,index]


def test_the_wrapper_says_what_to_do_when_nothing_is_installed(tmp_path: Path) -> None:
    wrapper = Path(__file__).parents[2] / "nephos"
    env = {"NEPHOS_PREFIX": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([wrapper, "up"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "make install" in done.stderr
