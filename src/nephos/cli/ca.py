"""nephos ca: the cloud's own certificate authority, and what it issued for the server (S2-03, S2-04)."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nephos.kernel.tls.authority import Shown
    from nephos.kernel.tls.keeper import Keeper
    from nephos.settings import Settings


def options(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = """The cloud's own certificate authority.

  show                 the authority and the server's certificates: names, fingerprints, validity
  export               print the authority's certificate, for clients to trust
  renew                issue the server's certificate anew; a running server changes to it by itself
  rollover             take the next step to another authority: it is trusted beside the present one, then it issues,
                       then the former one is trusted no more; a step waits until every host is ready for it
  issue NAME…          key and certificate for something else of this cloud: a proxy, a database, a broker"""
    parser.add_argument("verb", choices=("show", "export", "renew", "rollover", "issue"), help="what to do")
    parser.add_argument("name", nargs="*", help="of issue: names and addresses that it is good for")
    parser.add_argument("--force", action="store_true", help="of rollover: do not wait for hosts; they join again later")
    parser.add_argument("--days", type=int, help="of issue: how long it lasts (as the server's)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="of issue and export: the PEM file to write")


def run(options: argparse.Namespace) -> None:
    from nephos import settings as all_settings
    from nephos.errors import SettingsError

    settings = all_settings.load(options.state)
    if options.verb == "export":
        _export(options, settings)
        return
    if os.geteuid() != 0:
        raise SettingsError(f"`nephos ca {options.verb}` needs root: only the server and root may read the keys.")
    if not (settings.tls_dir / "ca.pem").exists():
        raise SettingsError(f"The cloud in {settings.state} has no authority: it speaks plain HTTP, or was never up.")
    if options.verb == "rollover":
        _rollover(options, settings)
        return
    keeper = _keeper(settings)
    if options.verb == "show":
        _show(options, settings, keeper)
    elif options.verb == "renew":
        _say(options, {"server": keeper.renew()})
    else:
        _issue(options, settings, keeper)


def _keeper(settings: Settings) -> Keeper:
    from nephos.kernel.tls.authority import Authority
    from nephos.kernel.tls.keeper import Files, Keeper, names

    given = settings.tls.certificate
    files = Files(Path(given), Path(settings.tls.key or given)) if given else None
    return Keeper(Authority(settings.tls_dir), names(settings), settings.tls.server_days, files)


def _export(options: argparse.Namespace, settings: Settings) -> None:
    from nephos.errors import SettingsError

    try:
        pem = settings.authority_file.read_text()
    except OSError as wrong:
        raise SettingsError(f"The cloud in {settings.state} has no authority: {wrong}") from wrong
    if options.out:
        options.out.write_text(pem)
    else:
        print(json.dumps({"certificate": pem}) if options.json else pem, end="")


def _show(options: argparse.Namespace, settings: Settings, keeper: Keeper) -> None:
    from nephos.kernel.tls import authority

    found = {"authority": authority.show(keeper.authority.certificate)}
    for name, files in (("server", keeper.own), ("server, the operator's", keeper.given)):
        if files is not None:
            found[name] = authority.show(authority.load(files.certificate))
    local = settings.agent_dir / "host.pem"
    if local.exists():
        found["host"] = authority.show(authority.load(local))
    _say(options, found)


def _rollover(options: argparse.Namespace, settings: Settings) -> None:
    """Source: requirement S2-04. Raises SettingsError naming the hosts that are not ready for the next step."""
    from nephos.cli.client import Client
    from nephos.kernel.tls import authority, rollover

    directory = settings.tls_dir
    resumed, now = rollover.resume(directory), rollover.state(directory)
    # hosts that dial by TLS say who certified them, and then whom they trust
    hosts = {each["name"]: each["trusts"] for each in Client(settings).get("/nephos/v1/hosts")["hosts"] if each["trusts"]}
    changed = "The next authority issues, and the former one is still trusted. Take the last step when hosts have renewed."
    if resumed:
        words = f"This step was interrupted, and is complete now. {changed}"
    elif now == rollover.DONE:
        rollover.stage(directory, settings.cloud_id, settings.tls.authority_days)
        words = "The next authority is trusted beside the present one. Give clients `nephos ca export`, then take the next step."
    elif now == rollover.STAGED:
        following = authority.pin_of(authority.load(directory / authority.NEXT))
        _wait_for(options, [name for name, trusts in hosts.items() if following not in trusts[1:]])
        rollover.change(directory)
        words = changed
    else:
        present = authority.pin_of(authority.load(directory / "ca.pem"))
        _wait_for(options, [name for name, trusts in hosts.items() if trusts[0] != present])
        rollover.finish(directory)
        words = "The former authority is trusted no more; a server that runs takes its hosts until its next start."
    keeper = _keeper(settings)
    keeper.ensure()
    authority.write(settings.authority_file, keeper.authority.trusted, 0o644)
    print(json.dumps({"state": rollover.state(directory)}) if options.json else words)


def _wait_for(options: argparse.Namespace, hosts: list[str]) -> None:
    from nephos.errors import SettingsError

    if hosts and not options.force:
        raise SettingsError(
            f"Not ready yet: {', '.join(sorted(hosts))}. A host that is connected is so within seconds; with --force those "
            "that are not join again."
        )


def _issue(options: argparse.Namespace, settings: Settings, keeper: Keeper) -> None:
    from nephos.errors import SettingsError
    from nephos.kernel.tls import authority

    if not options.name or options.out is None:
        raise SettingsError("Say what for and where to: `nephos ca issue NAME… --out FILE`.")
    if authority.SERVER_NAME in options.name:
        raise SettingsError(
            f"{authority.SERVER_NAME} is what agents know the cloud's servers by: nothing else gets it."
        )
    authority.write(options.out, keeper.authority.server(options.name, options.days or settings.tls.server_days), 0o600)
    _say(options, {"issued": authority.show(authority.load(options.out))})


def _say(options: argparse.Namespace, found: dict[str, Shown]) -> None:
    from nephos.kernel.tls.authority import now

    if options.json:
        print(json.dumps({name: _plain(each) for name, each in found.items()}))
        return
    for name, each in found.items():
        left = (each.not_after - now()).days
        print(f"{name}\n  subject      {each.subject}")
        if each.names:
            print(f"  names        {', '.join(each.names)}")
        print(f"  issuer       {each.issuer}\n  fingerprint  sha256 {each.fingerprint}\n  serial       {each.serial}")
        print(
            f"  valid        {each.not_before:%Y-%m-%d %H:%M} to {each.not_after:%Y-%m-%d %H:%M} UTC, {left} days more"
        )


def _plain(shown: Shown) -> dict[str, Any]:
    import msgspec

    return msgspec.to_builtins(shown)  # type: ignore[no-any-return]
