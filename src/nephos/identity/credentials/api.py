"""/v3/credentials, and the EC2 ones below users."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Row, select

from nephos import errors
from nephos.identity import listing, part, targets
from nephos.identity import wire as shared
from nephos.identity.credentials import actions, wire
from nephos.identity.credentials.store import credential
from nephos.identity.users import actions as users
from nephos.kernel import clock
from nephos.kernel.db.engine import Tx
from nephos.kernel.http.call import Call, Reply
from nephos.kernel.http.routes import Route

COLUMNS = {name: credential.c[name] for name in ("id", "user_id", "type", "project_id")}


def _primary(call: Call) -> None:
    """Who acts for a user by delegation does not get its other secrets, nor makes any that outlive the delegation."""
    if call.who.delegated or call.who.trust_id is not None:
        raise errors.Forbidden("Delegated tokens cannot access credentials directly")


def index(call: Call) -> Reply:
    own = targets.of(call, credential={"user_id": call.who.user_id})
    call.permit(own if call.who.system_scope is None else dict(call.params))
    _primary(call)
    with call.cloud.database.read() as tx:
        listed = listing.fetch(tx, call, select(credential), COLUMNS, key=credential.c.id, sort="id")
    rows = [row for row in listed.rows if call.allowed("identity:get_credential", targets.of(call, credential=row))]
    vault = part.of(call.cloud).vault
    items = [wire.credential(call, row, vault.open(row.sealed)) for row in rows]
    return Reply(shared.collection(call, "credentials", items, listed.marker))


def create(call: Call) -> Reply:
    body, extra = shared.member(call, "credential", wire.CredentialCreate)
    call.permit(targets.of(call, credential={"user_id": body.user_id}))
    _primary(call)
    blob, vault = wire.text(body.blob), part.of(call.cloud).vault
    ident = clock.hex_id()
    if body.type.lower() == actions.EC2:
        ident = actions.ident_of(wire.ec2_keys(blob)["access"])
        if body.project_id is None:
            raise errors.BadRequest("Invalid input for credential: one of type ec2 needs a project_id.")
    values = {
        "id": ident,
        "user_id": body.user_id,
        "project_id": body.project_id,
        "type": body.type,
        "sealed": vault.seal(blob),
        "key_id": vault.key_id,
        "extra": extra or None,
    }
    row = call.cloud.database.write(lambda tx: actions.create(tx, values))
    return Reply({"credential": wire.credential(call, row, blob)})


def _permitted(tx: Tx, call: Call) -> Row[Any]:
    row = actions.get(tx, call.params["credential_id"])
    call.permit(targets.of(call, credential=row))
    _primary(call)
    return actions.find(tx, call.params["credential_id"])


def show(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    return Reply({"credential": wire.credential(call, row, part.of(call.cloud).vault.open(row.sealed))})


def update(call: Call) -> Reply:
    """Only the blob changes; whose it is and what it is for stay."""
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    body, _ = shared.member(call, "credential", wire.CredentialUpdate)
    for name, new in shared.given(body).items():
        if name != "blob" and new != getattr(row, name):
            raise errors.BadRequest(f"Cannot change {name} of a credential: delete it and create another.")
    vault = part.of(call.cloud).vault
    if body.blob is UNSET:
        raise errors.BadRequest("Invalid input for credential: blob is missing.")
    blob = wire.text(body.blob)
    if row.type.lower() == actions.EC2:
        wire.same_scope(vault.open(row.sealed), blob)
    sealed = vault.seal(blob)
    row = call.cloud.database.write(lambda tx: actions.reseal(tx, row.id, sealed, vault.key_id))
    return Reply({"credential": wire.credential(call, row, blob)})


def delete(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _permitted(tx, call)
    call.cloud.database.write(lambda tx: actions.remove(tx, row.id))
    return Reply()


def index_ec2(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        user = users.get(tx, call.params["user_id"])
        call.permit(targets.of(call, user=user))
        _primary(call)
        users.find(tx, call.params["user_id"])
        rows = tx.all(
            select(credential)
            .where(credential.c.user_id == call.params["user_id"], credential.c.type == actions.EC2)
            .order_by(credential.c.created_at, credential.c.id)
        )
    vault = part.of(call.cloud).vault
    items = [wire.ec2(call, row, vault.open(row.sealed)) for row in rows]
    return Reply(shared.collection(call, "credentials", items))


def create_ec2(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        user = users.get(tx, call.params["user_id"])
        call.permit({**targets.of(call, user=user), "target.credential.user_id": call.params["user_id"]})
        users.find(tx, call.params["user_id"])
    _primary(call)
    body = call.body(wire.Ec2Create)
    access, secret, vault = clock.hex_id(), clock.hex_id(), part.of(call.cloud).vault
    blob = msgspec.json.encode({"access": access, "secret": secret}).decode()
    values = {
        "id": actions.ident_of(access),
        "user_id": call.params["user_id"],
        "project_id": body.tenant_id,
        "type": actions.EC2,
        "sealed": vault.seal(blob),
        "key_id": vault.key_id,
    }
    row = call.cloud.database.write(lambda tx: actions.create(tx, values))
    return Reply({"credential": wire.ec2(call, row, blob)})


def _ec2(tx: Tx, call: Call) -> Row[Any]:
    row = actions.get(tx, actions.ident_of(call.params["credential_id"]))
    owner = row.user_id if row is not None else call.params["user_id"]
    call.permit(targets.of(call, credential={"user_id": owner}))
    _primary(call)
    if row is None or row.user_id != call.params["user_id"]:
        raise errors.NotFound(f"Could not find credential: {call.params['credential_id']}.")
    return row


def show_ec2(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _ec2(tx, call)
    return Reply({"credential": wire.ec2(call, row, part.of(call.cloud).vault.open(row.sealed))})


def delete_ec2(call: Call) -> Reply:
    with call.cloud.database.read() as tx:
        row = _ec2(tx, call)
    call.cloud.database.write(lambda tx: actions.remove(tx, row.id))
    return Reply()


_ONE, _EC2 = "/v3/credentials/{credential_id}", "/v3/users/{user_id}/credentials/OS-EC2"
ROUTES = (
    Route("GET", "/v3/credentials", index, "identity:list_credentials", target="later"),
    Route("POST", "/v3/credentials", create, "identity:create_credential", 201, target="later"),
    Route("GET", _ONE, show, "identity:get_credential", target="later"),
    Route("PATCH", _ONE, update, "identity:update_credential", target="later"),
    Route("DELETE", _ONE, delete, "identity:delete_credential", 204, target="later"),
    Route("GET", _EC2, index_ec2, "identity:ec2_list_credentials", target="later"),
    Route("POST", _EC2, create_ec2, "identity:ec2_create_credential", 201, target="later"),
    Route("GET", f"{_EC2}/{{credential_id}}", show_ec2, "identity:ec2_get_credential", target="later"),
    Route("DELETE", f"{_EC2}/{{credential_id}}", delete_ec2, "identity:ec2_delete_credential", 204, target="later"),
)
