"""From one authority of a cloud to the next, in three steps, with both trusted in between.

1. *staged*: `next.pem` with its key lies beside `ca.pem`, and everybody learns to trust it;
2. *changed*: it is `ca.pem` now and issues; the one before, without its key, is `former.pem` and still trusted;
3. *done*: `former.pem` is gone.

Who takes a step makes sure that hosts are ready for it: a host says whom it trusts and who certified it (`wire.HostHello`).
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from nephos.kernel.tls import authority as ca

STAGED, CHANGED, DONE = "staged", "changed", "done"


def state(directory: Path) -> str:
    """The step that was taken last."""
    if (directory / ca.NEXT).exists():
        return STAGED
    return CHANGED if (directory / ca.FORMER).exists() else DONE


def stage(directory: Path, cloud_id: str, days: int) -> None:
    """Make the next authority."""
    with ca.alone(directory):
        if state(directory) == DONE:
            ca.make(directory, cloud_id, days, Path(ca.NEXT).stem)


def change(directory: Path) -> None:
    """Have the staged one issue from now on: from the moment that it is `ca.pem`. Done again it goes on where it was
    interrupted."""
    with ca.alone(directory):
        _change(directory)


def resume(directory: Path) -> bool:
    """Complete a change that was interrupted; whether there was one."""
    with ca.alone(directory):
        following, former = directory / ca.NEXT, directory / ca.FORMER
        if not (following.exists() and former.exists()):
            return False
        # A former one that is neither is of an earlier time, and was copied here.
        begun = (directory / "ca.pem").read_bytes() in (following.read_bytes(), former.read_bytes())
        if begun:
            _change(directory)
        return begun


def _change(directory: Path) -> None:
    following, key = directory / ca.NEXT, directory / ca.NEXT_KEY
    if not following.exists():
        return
    present = (directory / "ca.pem").read_bytes()
    if present != following.read_bytes():
        load_pem_private_key(key.read_bytes(), None)
        ca.write(directory / ca.FORMER, present, 0o644)
        ca.write(directory / "ca.pem", following.read_bytes(), 0o644)
    if key.exists():
        ca.write(directory / "ca.key", key.read_bytes(), 0o600)
    key.unlink(missing_ok=True)
    following.unlink()


def finish(directory: Path) -> None:
    """Trust the former authority no more."""
    with ca.alone(directory):
        (directory / ca.FORMER).unlink(missing_ok=True)
