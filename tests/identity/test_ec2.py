"""Requests signed with EC2 credentials: AWS' own examples, and the tokens that services get for them."""

from __future__ import annotations

import base64
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from nephos import errors
from nephos.identity import part
from nephos.identity.credentials import signatures
from nephos.identity.credentials.signatures import Signed, check_ec2, check_s3
from tests.harness import Client, Harness, Response

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SUITE_SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

VERSION_2 = Signed(
    signature="i91nKc4PWAt0JJIdXwz9HxZCJDdiy6cf/Mj6vPxyYIs=",
    host="elasticmapreduce.amazonaws.com",
    verb="GET",
    path="/",
    params={
        "AWSAccessKeyId": "AKIAIOSFODNN7EXAMPLE",
        "Action": "DescribeJobFlows",
        "SignatureVersion": "2",
        "Timestamp": "2011-10-03T15:19:30",
        "Version": "2009-03-31",
    },
)
"""AWS General Reference, "Signature Version 2 signing process"."""

VERSION_4 = Signed(
    signature="5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    host="example.amazonaws.com",
    verb="GET",
    path="/",
    headers={
        "Host": "example.amazonaws.com",
        "X-Amz-Date": "20150830T123600Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    },
    body_hash="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
)
"""AWS Signature Version 4 test suite, get-vanilla."""

S3_OLD = Signed(
    token=base64.urlsafe_b64encode(b"GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/johnsmith/photos/puppy.jpg").decode(),
    signature="bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
)
"""Amazon S3 developer guide, "Signing and authenticating REST requests"."""

S3_NEW = Signed(
    token=base64.urlsafe_b64encode(
        b"AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
        b"7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
    ).decode(),
    signature="f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
)
"""Amazon S3 API reference, "Authenticating requests: GET object"."""


def changed(given: Signed, **values: Any) -> Signed:
    return msgspec.structs.replace(given, **values)


def test_what_aws_shows_is_right() -> None:
    check_ec2(VERSION_2, SECRET)
    check_ec2(VERSION_4, SUITE_SECRET)
    check_s3(S3_OLD, SECRET)
    check_s3(S3_NEW, SECRET)


@pytest.mark.parametrize("given", [VERSION_2, VERSION_4], ids=["v2", "v4"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"verb": "POST"},
        {"path": "/other"},
        {"signature": "x" * 44},
        {"signature": ""},
        {"signature": None},
        {"host": "evil.example", "headers": {}},
        {"params": {"SignatureVersion": "2", "Action": "TerminateInstances"}},
        {"params": {"SignatureVersion": "3"}},
        {"params": {}, "headers": {}},
        {"params": {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": "/" * 5}, "headers": {}},
    ],
)
def test_what_was_changed_is_wrong(given: Signed, wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.Unauthorized):
        check_ec2(changed(given, **wrong), SECRET if given is VERSION_2 else SUITE_SECRET)
    with pytest.raises(errors.Unauthorized):
        check_ec2(given, "another secret")


@pytest.mark.parametrize("given", [S3_OLD, S3_NEW], ids=["old", "v4"])
def test_wrong_for_s3(given: Signed) -> None:
    other = base64.urlsafe_b64encode(b"AWS4-HMAC-SHA256\nx\n20130524/us-east-1/ec2/aws4_request\nx").decode()
    for wrong in (
        {"token": other},
        {"token": "!"},
        {"token": None},
        {"token": "QVdTNA=="},
        {"signature": None},
        {"signature": "ü"},
    ):
        with pytest.raises(errors.Unauthorized):
            check_s3(changed(given, **wrong), SECRET)
    with pytest.raises(errors.Unauthorized):
        check_s3(given, "another secret")


def test_a_port_may_be_left_out_of_what_is_signed() -> None:
    check_ec2(changed(VERSION_2, host="elasticmapreduce.amazonaws.com:8773"), SECRET)
    with_port = {**VERSION_4.headers, "Host": "example.amazonaws.com:8773"}
    check_ec2(changed(VERSION_4, host="example.amazonaws.com:8773", headers=with_port), SUITE_SECRET)


# --- tokens ---


class Keys:
    """The demo user's EC2 credential, and somebody who may ask for tokens."""

    def __init__(self, cloud: Harness) -> None:
        self.cloud, self.admin = cloud, cloud.login("admin", "admin")
        self.user = self.admin.get("/v3/users?name=demo").json["users"][0]["id"]
        self.project = self.admin.get("/v3/projects?name=demo").json["projects"][0]["id"]
        made = cloud.login("demo", "demo").post(
            f"/v3/users/{self.user}/credentials/OS-EC2", {"tenant_id": self.project}
        )
        assert made.status == 201
        self.access, self.secret = made.json["credential"]["access"], made.json["credential"]["secret"]

    def signed(self, *, ago: float = 0, secret: str | None = None, **more: Any) -> dict[str, Any]:
        moment = datetime.now(UTC) - timedelta(seconds=ago)
        given = Signed(
            access=self.access,
            host="127.0.0.1",
            verb="GET",
            path="/services/Cloud",
            params={
                "SignatureVersion": "2",
                "Action": "DescribeInstances",
                "Timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
        )
        signature = signatures._ec2(given, given.host, secret or self.secret)
        return {**msgspec.to_builtins(given), "token": None, "signature": signature, **more}

    def ask(self, body: Any, client: Client | None = None, path: str = "/v3/ec2tokens") -> Response:
        return (client or self.admin).post(path, body)


@pytest.fixture
def keys(cloud: Harness) -> Keys:
    return Keys(cloud)


@pytest.mark.parametrize("name", ["credentials", "credential", "ec2Credentials"])
def test_a_token_for_who_signed(keys: Keys, name: str) -> None:
    reply = keys.ask({name: keys.signed()})
    assert reply.status == 200, reply
    token = reply.json["token"]
    assert token["user"]["id"] == keys.user and token["project"]["id"] == keys.project
    assert token["methods"] == ["ec2credential"] and token["catalog"]
    assert {role["name"] for role in token["roles"]} == {"member", "reader"}
    text = reply.headers["x-subject-token"]
    shown = Client(keys.cloud, text).get("/compute/v2.1/servers")
    assert shown.status == 200


def test_s3_says_whose_it_is_without_giving_the_token(keys: Keys) -> None:
    token = base64.urlsafe_b64encode(b"GET\n\n\n\n/bucket").decode()
    given = {"access": keys.access, "token": token}
    signature = base64.b64encode(hmac.digest(keys.secret.encode(), b"GET\n\n\n\n/bucket", "sha1")).decode()
    reply = keys.ask({"credentials": {**given, "signature": signature}}, path="/v3/s3tokens")
    assert reply.status == 200 and reply.json["token"]["user"]["id"] == keys.user
    assert "x-subject-token" not in reply.headers
    wrong = ("B" if signature[0] == "A" else "A") + signature[1:]
    assert keys.ask({"credentials": {**given, "signature": wrong}}, path="/v3/s3tokens").status == 401


def test_who_may_ask(keys: Keys) -> None:
    demo = keys.cloud.login("demo", "demo")
    for path in ("/v3/ec2tokens", "/v3/s3tokens"):
        assert keys.ask({"credentials": keys.signed()}, demo, path).status == 403
        assert keys.ask({"credentials": keys.signed()}, keys.cloud.nobody, path).status == 401
        assert keys.admin.get(path).status == 405


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, ""),
        ({}, 401, "EC2 Signature not supplied"),
        ({"credentials": {}}, 401, "EC2 Signature not supplied"),
        ({"credentials": {"access": "nonesuch", "signature": "x"}}, 404, "EC2 access key not found."),
        ({"credentials": {"access": 7}}, 400, "access"),
        ({"credentials": {"access": "x", "params": [1]}}, 400, "params"),
    ],
)
def test_bad_requests(keys: Keys, body: Any, status: int, words: str) -> None:
    for path in ("/v3/ec2tokens", "/v3/s3tokens"):
        reply = keys.ask(body, path=path)
        assert reply.status == status and words in reply.json["error"]["message"]


def test_a_wrong_or_old_signature(keys: Keys) -> None:
    assert keys.ask({"credentials": keys.signed(secret="guess")}).status == 401
    assert keys.ask({"credentials": keys.signed(ago=850)}).status == 200
    old = keys.ask({"credentials": keys.signed(ago=930)})
    assert old.status == 401 and "Credential is expired" in old.json["error"]["message"]
    odd = keys.signed()
    odd["headers"] = {"X-Amz-Date": "yesterday"}
    odd["params"].pop("Timestamp")
    odd["signature"] = signatures._ec2(msgspec.convert(odd, Signed), odd["host"], keys.secret)
    assert "timestamp is invalid" in keys.ask({"credentials": odd}).json["error"]["message"]


def test_nobody_who_is_disabled(keys: Keys) -> None:
    body = {"credentials": keys.signed()}
    for path in (f"/v3/projects/{keys.project}", f"/v3/users/{keys.user}"):
        kind = path.split("/")[2][:-1]
        assert keys.admin.patch(path, {kind: {"enabled": False}}).status == 200
        assert keys.ask(body).status == 401
        assert keys.admin.patch(path, {kind: {"enabled": True}}).status == 200
        assert keys.ask(body).status == 200
    assert keys.admin.delete(f"/v3/users/{keys.user}/credentials/OS-EC2/{keys.access}").status == 204
    assert keys.ask(body).status == 404


def test_what_an_ec2_token_may_not(keys: Keys) -> None:
    """It is narrower than its user: it gets no other token, and makes nothing that outlives it."""
    text = keys.ask({"credentials": keys.signed()}).headers["x-subject-token"]
    client = Client(keys.cloud, text)
    auth = {"identity": {"methods": ["token"], "token": {"id": text}}}
    reply = client.post("/v3/auth/tokens", {"auth": auth})
    assert reply.status == 403 and "delegated token" in reply.json["error"]["message"]
    mine = f"/v3/users/{keys.user}"
    assert client.get("/v3/credentials").status == 403
    assert client.get(f"{mine}/credentials/OS-EC2").status == 403
    assert client.post(f"{mine}/credentials/OS-EC2", {"tenant_id": keys.project}).status == 403
    assert client.get(f"{mine}/application_credentials").status == 403
    assert client.post(f"{mine}/application_credentials", {"application_credential": {"name": "x"}}).status == 403
    assert client.get(f"/v3/OS-TRUST/trusts?trustor_user_id={keys.user}").status == 403


def test_a_credential_is_as_narrow_as_what_made_it(keys: Keys) -> None:
    """Blobs that a Keystone kept may name an application credential or a trust."""
    demo = keys.cloud.login("demo", "demo")
    reader = keys.admin.get("/v3/roles?name=reader").json["roles"][0]["id"]
    made = demo.post(
        f"/v3/users/{keys.user}/application_credentials",
        {"application_credential": {"name": "narrow", "roles": [{"id": reader}]}},
    ).json["application_credential"]
    blob = {"access": "other", "secret": "s3cret", "app_cred_id": made["id"]}
    body = {"user_id": keys.user, "project_id": keys.project, "type": "ec2", "blob": msgspec.json.encode(blob).decode()}
    credential = demo.post("/v3/credentials", {"credential": body}).json["credential"]
    keys.access, keys.secret = "other", "s3cret"
    token = keys.ask({"credentials": keys.signed()}).json["token"]
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["application_credential"]["id"] == made["id"]
    wider = msgspec.json.encode({"access": "other", "secret": "s3cret"}).decode()
    reply = demo.patch(f"/v3/credentials/{credential['id']}", {"credential": {"blob": wider}})
    assert reply.status == 400 and "app_cred_id can not be updated" in reply.json["error"]["message"]
    assert demo.delete(f"/v3/users/{keys.user}/application_credentials/{made['id']}").status == 204
    assert keys.ask({"credentials": keys.signed()}).status == 401


def test_secrets_are_in_no_answer_and_no_log(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    for body in (keys.signed(), keys.signed(secret="guess"), keys.signed(ago=9999)):
        assert keys.secret.encode() not in keys.ask({"credentials": body}).body
    assert keys.secret not in caplog.text
    assert part.of(keys.cloud.cloud).vault
