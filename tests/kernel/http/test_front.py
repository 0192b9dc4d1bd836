"""The front: routes, faults in every dialect, ids, versions, permissions, and requests that nobody should send."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from nephos.kernel import logs
from nephos.kernel.http.front import Front
from tests.kernel.http.toyfront import DIALECTS, Answer, ask, front


@pytest.fixture(scope="module")
def app() -> Front:
    return front()


def words(dialect: str, answer: Answer) -> tuple[Any, str]:
    """The code and the message of a fault, checked to be of its dialect's shape."""
    body = answer.json
    assert answer.headers["content-type"] == "application/json"
    if dialect == "compute":
        if answer.status == 406:
            (error,) = body["errors"]
            return error["status"], error["detail"]
        ((_, fault),) = body.items()
        return fault["code"], fault["message"]
    if dialect == "identity":
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "title", "message"}
        return body["error"]["code"], body["error"]["message"]
    if dialect == "network":
        assert set(body["NeutronError"]) == {"type", "message", "detail"}
        return answer.status, body["NeutronError"]["message"]
    if dialect == "image":
        return int(body["code"].split()[0]), body["message"]
    (error,) = body["errors"]
    assert error["request_id"] == answer.headers["x-openstack-request-id"]
    return error["status"], error["detail"]


CASES: list[tuple[str, str, str, bytes, str | None, int, str]] = [
    ("unknown URL", "GET", "/nothing/here", b"", "reader", 404, "/nothing/here"),
    ("unknown verb", "PUT", "/things/x", b"", "reader", 405, "PUT is not allowed"),
    ("no token", "GET", "/things/x", b"", None, 401, "authentication"),
    ("empty token", "GET", "/things/x", b"", "", 401, "authentication"),
    ("wrong token", "GET", "/things/x", b"", "nobody", 401, "authentication"),
    ("forbidden", "DELETE", "/things/x", b"", "reader", 403, "things:admin"),
    ("no JSON", "POST", "/things", b'{"thing":', "reader", 400, "JSON"),
    ("no body", "POST", "/things", b"", "reader", 400, "JSON"),
    ("a list", "POST", "/things", b"[]", "reader", 400, "Invalid input"),
    ("a null", "POST", "/things", b"null", "reader", 400, "Invalid input"),
    ("a number", "POST", "/things", b"7", "reader", 400, "Invalid input"),
    ("a text", "POST", "/things", b'"thing"', "reader", 400, "Invalid input"),
    ("wrong type", "POST", "/things", b'{"thing": {"name": 7}}', "reader", 400, "$.thing.name"),
    ("missing field", "POST", "/things", b'{"thing": {}}', "reader", 400, "name"),
    ("unknown field", "POST", "/things", b'{"thing": {"name": "a", "colour": 1}}', "reader", 400, "colour"),
    ("not UTF-8", "POST", "/things", b'{"thing": {"name": "\xff"}}', "reader", 400, "JSON"),
    ("half a surrogate", "POST", "/things", b'{"thing": {"name": "\\ud800 x"}}', "reader", 400, "JSON"),
    ("null character", "POST", "/things", b'{"thing": {"name": "a\\u0000b"}}', "reader", 400, "null character"),
    ("raw null character", "POST", "/things", b'{"thing": {"name": "a\x00b"}}', "reader", 400, "null character"),
    ("nested too deep", "POST", "/things", b'{"thing": ' * 300, "reader", 400, ""),
    ("nested lists", "POST", "/things", b"[" * 4000, "reader", 400, ""),
    ("too large", "POST", "/things", b" " * 4097, "reader", 413, "larger than 4096"),
    ("conflict", "POST", "/things", b'{"thing": {"name": "a", "size": -1}}', "reader", 409, "busy"),
    ("over quota", "POST", "/things", b'{"thing": {"name": "a", "size": -2}}', "reader", 403, "limit 1"),
    ("rate", "POST", "/things", b'{"thing": {"name": "a", "size": -3}}', "reader", 429, "slow down"),
    ("away", "POST", "/things", b'{"thing": {"name": "a", "size": -4}}', "reader", 503, "away"),
    ("no host", "POST", "/things", b'{"thing": {"name": "a", "size": -5}}', "reader", 500, "no host"),
    ("gone", "POST", "/things", b'{"thing": {"name": "a", "size": -6}}', "reader", 410, "gone"),
    ("number too large", "GET", "/big", b"", "reader", 400, "too large"),
    ("a null in the URL", "GET", "/things/a\x00b", b"", "reader", 400, "null character"),
    ("no UTF-8 in the URL", "GET", "/things/\xff", b"", "reader", 400, "UTF-8"),
    ("a null in the query", "GET", "/things/x?name=%00", b"", "reader", 400, "null character"),
    ("no UTF-8 in the query", "GET", "/things/x?name=%ff", b"", "reader", 400, "query"),
    ("raw bytes in the query", "GET", "/things/x?name=\xff", b"", "reader", 400, "query"),
    ("too many parameters", "GET", "/things/x?" + "a=1&" * 2000, b"", "reader", 400, "query"),
    ("bad limit", "GET", "/things/x?limit=--5", b"", "reader", 400, "limit"),
    ("negative limit", "GET", "/things/x?limit=-1", b"", "reader", 400, "limit"),
    ("huge limit", "GET", "/things/x?limit=" + "9" * 30, b"", "reader", 400, "limit"),
    ("endless limit", "GET", "/things/x?limit=" + "0" * 9000 + "1", b"", "reader", 400, "limit"),
    ("other digits", "GET", "/things/x?limit=%C2%B2", b"", "reader", 400, "limit"),
    ("empty limit", "GET", "/things/x?limit=", b"", "reader", 400, "limit"),
    ("bad sort key", "GET", "/things/x?sort_key=password", b"", "reader", 400, "password"),
    ("bad sort direction", "GET", "/things/x?sort_key=name&sort_dir=up", b"", "reader", 400, "up"),
    ("bad sort", "GET", "/things/x?sort=name:asc,:", b"", "reader", 400, "sort"),
    ("bad boolean", "GET", "/things/x?flag=maybe", b"", "reader", 400, "maybe"),
    ("no such action", "POST", "/things/x/action", b'{"explode": null}', "reader", 400, "explode"),
    ("two actions", "POST", "/things/x/action", b'{"os-start": null, "lock": null}', "reader", 400, "one key"),
    ("action in a list", "POST", "/things/x/action", b'["os-start"]', "reader", 400, "one key"),
    ("action without JSON", "POST", "/things/x/action", b"os-start", "reader", 400, "JSON"),
    ("action nested too deep", "POST", "/things/x/action", b"[" * 4000, "reader", 400, ""),
    ("action without token", "POST", "/things/x/action", b"nonsense", None, 401, "authentication"),
    ("action forbidden", "POST", "/things/x/action", b'{"lock": null}', "reader", 403, "things:admin"),
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_a_fault_in_each_dialect(
    app: Front, dialect: str, case: tuple[str, str, str, bytes, str | None, int, str]
) -> None:
    _, method, path, raw, token, status, says = case
    answer = ask(app, method, f"/{dialect}{path}", raw, token)
    code, message = words(dialect, answer)
    assert (answer.status, code) == (status, status), answer
    assert says in message
    assert answer.headers["x-openstack-request-id"].startswith("req-")
    if status == 401:
        assert answer.headers["www-authenticate"] == 'Keystone uri="http://127.0.0.1:5000/v3"'
    if status == 405:
        assert {"GET", "DELETE", "HEAD"} <= set(answer.headers["allow"].replace(" ", "").split(","))
    if status == 429:
        assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("method", "path", "raw", "token"),
    [
        ("POST", "/things", b'{"thing": {"name": "a", "size": -99}}', "reader"),
        ("GET", "/weird", b"", "reader"),
        ("GET", "/later/p?forget", b"", "reader"),
        ("GET", "/things/x", b"", "broken"),
    ],
)
def test_an_unexpected_error_is_logged_with_its_trace_and_shown_without(
    app: Front, dialect: str, method: str, path: str, raw: bytes, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(app, method, f"/{dialect}{path}", raw, token)
    assert answer.status == 500
    _, message = words(dialect, answer)
    assert answer.headers["x-openstack-request-id"] in message
    assert b"secret" not in answer.raw and b"Traceback" not in answer.raw
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    line = json.loads(logs.JsonFormatter().format(record))
    assert line["request_id"] == answer.headers["x-openstack-request-id"]
    assert "Traceback" in line["trace"]


def test_urls_of_no_service_have_faults_too(app: Front) -> None:
    answer = ask(app, "GET", "/nothing")
    assert (answer.status, answer.json["error"]["code"]) == (404, 404)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["error"]["request_id"] == answer.headers["x-openstack-request-id"]
    assert ask(app, "GET", "/computer/things/x").status == 404


def test_what_comes_in_goes_out(app: Front) -> None:
    body = '{"thing": {"name": "Grüße 漢字 \U0001f600", "size": 3}}'
    for raw in (body.encode(), json.dumps(json.loads(body)).encode(), body.encode() + b" \n"):
        answer = ask(app, "POST", "/identity/things", raw)
        assert answer.status == 201
        assert answer.json == json.loads(body)
        assert answer.headers["location"].startswith("http://cloud.example:5000/things/Gr%C3%BC%C3%9Fe")
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", ["a\\r\\nSet-Cookie: x=1", "\\u2028", "\\t"])
def test_no_line_breaks_into_the_headers(app: Front, name: str) -> None:
    answer = ask(app, "POST", "/identity/things", f'{{"thing": {{"name": "{name}"}}}}'.encode())
    assert answer.status == 201
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]
)
def test_a_body_is_json_whatever_it_is_called(app: Front, kind: str) -> None:
    answer = ask(app, "POST", "/compute/things", b'{"thing": {"name": "a"}}', CONTENT_TYPE=kind)
    assert answer.status == 201


def test_a_body_without_a_length_is_read_to_its_end_and_bounded(app: Front) -> None:
    body = b'{"thing": {"name": "a"}}'
    for length in ("", "x", "-1", "²"):
        assert ask(app, "POST", "/compute/things", body, CONTENT_LENGTH=length).status == 201
        assert ask(app, "POST", "/compute/things", body + b" " * 4096, CONTENT_LENGTH=length).status == 413
    assert ask(app, "POST", "/compute/things", body, CONTENT_LENGTH="9" * 5000).status == 413
    assert ask(app, "POST", "/compute/things", body + b" " * (4096 - len(body))).status == 201


def test_paths_are_decoded_and_a_trailing_slash_is_the_same(app: Front) -> None:
    assert ask(app, "GET", "/network/things/" + "é".encode().decode("latin-1")).json["id"] == "é"
    assert ask(app, "GET", "/network/things/a b%41").json["id"] == "a b%41"
    assert ask(app, "GET", "/network/things/x/").json["id"] == "x"
    assert ask(app, "GET", "/network/things/a/b").status == 404
    assert ask(app, "GET", "/network/things/x" + "y" * 30_000).status == 200
    assert ask(app, "GET", "/network//things/x").status == 404


def test_head_is_get_without_its_body(app: Front) -> None:
    got, head = ask(app, "GET", "/image/things/x"), ask(app, "HEAD", "/image/things/x")
    assert (head.status, head.raw) == (200, b"")
    assert head.headers["content-length"] == str(len(got.raw))
    assert head.headers["content-type"] == got.headers["content-type"]
    assert ask(app, "HEAD", "/image/things/x", token=None).status == 401
    assert ask(app, "HEAD", "/image/bytes").raw == b""
    assert ask(app, "HEAD", "/image/nothing").status == 404


def test_streams_and_empty_answers(app: Front) -> None:
    answer = ask(app, "GET", "/image/bytes")
    assert (answer.raw, answer.headers["content-type"]) == (b"onetwo", "application/octet-stream")
    gone = ask(app, "DELETE", "/image/things/x", token="admin")
    assert (gone.status, gone.raw) == (204, b"")
    assert "content-type" not in gone.headers


# --- ids -----------------------------------------------------------------------------------------------------


def test_every_answer_has_an_id_of_its_own(app: Front) -> None:
    ids = [ask(app, "GET", path).headers["x-openstack-request-id"] for path in ("/compute/public", "/compute/nope") * 3]
    assert len(set(ids)) == 6
    answer = ask(app, "GET", "/compute/things/x")
    assert answer.headers["x-compute-request-id"] == answer.headers["x-openstack-request-id"]
    assert "x-compute-request-id" not in ask(app, "GET", "/network/things/x").headers


def test_the_callers_own_id_is_logged_and_not_taken_over(app: Front, caplog: pytest.LogCaptureFixture) -> None:
    given = "req-0a7e63fa-5af4-4b9c-9b6b-2f6a3a1b1c2d"
    with caplog.at_level(logging.INFO):
        answer = ask(app, "GET", "/compute/things/x?name=%C3%A9", HTTP_X_OPENSTACK_REQUEST_ID=given)
        line = json.loads(logs.JsonFormatter().format(caplog.records[-1]))
    assert (line["logger"], line["global_request_id"]) == ("nephos.access", given)
    assert line["request_id"] == answer.headers["x-openstack-request-id"] != given
    assert line["message"].startswith("GET /compute/things/x?name=%C3%A9 200 ")
    assert line["message"].endswith("user=id-of-reader")
    for forged in ("x", "req-", "req-" + "a" * 500, "req-a\nb", "req-\xff"):
        with caplog.at_level(logging.INFO):
            ask(app, "GET", "/compute/nothing", HTTP_X_OPENSTACK_REQUEST_ID=forged)
            line = json.loads(logs.JsonFormatter().format(caplog.records[-1]))
        assert "global_request_id" not in line
        assert " 404 " in line["message"]


# --- versions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "legacy", "version"),
    [
        (None, None, "2.1"),
        ("compute 2.10", None, "2.10"),
        ("COMPUTE 2.10", None, "2.10"),
        ("volume 3.5, compute 2.10", None, "2.10"),
        ("volume 3.5", None, "2.1"),
        ("compute latest", None, "2.100"),
        (None, "2.9", "2.9"),
        (None, "latest", "2.100"),
        ("compute 2.10", "2.9", "2.10"),
    ],
)
def test_the_version_that_was_asked_for_is_served(
    app: Front, header: str | None, legacy: str | None, version: str
) -> None:
    sent: dict[str, Any] = {"HTTP_OPENSTACK_API_VERSION": header, "HTTP_X_OPENSTACK_NOVA_API_VERSION": legacy}
    answer = ask(app, "GET", "/compute/versioned", **{name: value for name, value in sent.items() if value is not None})
    assert answer.status == 200
    assert answer.json == {"did": "new" if int(version[2:]) >= 10 else "old", "version": version}
    assert answer.headers["openstack-api-version"] == f"compute {version}"
    assert answer.headers["x-openstack-nova-api-version"] == version
    assert "OpenStack-API-Version" in answer.headers["vary"]


def test_versions_that_are_not_served(app: Front) -> None:
    for wanted in ("2.0", "2.101", "3.1", "1.1", "2.99999"):
        answer = ask(app, "GET", "/compute/versioned", HTTP_OPENSTACK_API_VERSION=f"compute {wanted}")
        (error,) = answer.json["errors"]
        assert (answer.status, error["min_version"], error["max_version"]) == (406, "2.1", "2.100")
    for wanted in ("2", "2.x", "two", "2.1.1", "-2.1", "2.123456"):
        assert ask(app, "GET", "/compute/versioned", HTTP_OPENSTACK_API_VERSION=f"compute {wanted}").status == 400
    assert ask(app, "GET", "/compute/added").status == 404
    assert ask(app, "GET", "/compute/added", HTTP_OPENSTACK_API_VERSION="compute 2.50").status == 200


def test_actions_are_chosen_by_their_key_and_version(app: Front) -> None:
    def act(raw: bytes, version: str = "2.1", token: str = "reader") -> Answer:
        return ask(app, "POST", "/compute/things/x/action", raw, token, HTTP_OPENSTACK_API_VERSION=f"compute {version}")

    assert (act(b'{"os-start": null}').status, act(b'{"os-start": {}}').json["did"]) == (202, "start")
    assert act(b'{"lock": {}}', token="admin").json["did"] == "lock"
    assert act(b'{"new": {}}').status == 400
    assert act(b'{"new": {}}', "2.10").json["did"] == "new"


# --- permissions ---------------------------------------------------------------------------------------------


def test_public_routes_need_no_token_and_ignore_a_wrong_one(app: Front) -> None:
    assert ask(app, "GET", "/compute/public", token=None).status == 200
    assert ask(app, "GET", "/compute/public", token="nobody").status == 200


def test_a_handler_that_checks_itself_is_asked_with_its_own_target(app: Front) -> None:
    assert ask(app, "GET", "/network/later/p").status == 200


def test_the_front_counts_what_it_answers(app: Front) -> None:
    ask(app, "GET", "/placement/things/x")
    text = app.cloud.metrics.text().decode()
    assert 'nephos_requests_total{method="GET",path="/things/{id}",service="placement",status="200"}' in text
