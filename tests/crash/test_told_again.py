"""A server that dies between sending a notification and striking it off: it is sent again, and nothing is lost."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.cloud import RunningCloud, wait_for


def test_what_was_sent_and_not_struck_off_is_sent_again() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="nephos-failpoint-") as folder:
        Path(folder).chmod(0o777)
        point = Path(folder) / "point"
        cloud = RunningCloud(hypervisor="fake", failpoint=point)
        (cloud.state / "nephos.toml").write_text("[notifications]\nlog = true\n")
        with cloud:
            admin = cloud.connect("admin")
            told = cloud.state / "log" / "notifications" / "notifications.log"
            wait_for(told.exists, 60, "the first notification")
            point.write_text("notifications:log:sent")
            network = admin.create_network("twice")
            wait_for(lambda: not point.exists(), 60, "the kill")
            wait_for(lambda: len(about(told, network.id)) >= 2, 120, "the same again")
            assert {each["message_id"] for each in about(told, network.id)} == {about(told, network.id)[0]["message_id"]}
            findings = json.loads(cloud.nephos("audit", "--json", check=False))
            assert [each for each in findings if each["kind"] == "notifications"] == []


def about(path: Path, network_id: str) -> list[dict[str, Any]]:
    """What was told of a network's creation, oldest first."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    ends = [each for each in lines if each["event_type"] == "network.create.end"]
    return [each for each in ends if each["payload"]["network"]["id"] == network_id]
