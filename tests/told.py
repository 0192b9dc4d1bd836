"""What a cloud tells: the messages that wait in its outbox.

with Harness(tmp_path, listening) as cloud:
    told = Told(cloud)
    ...
    assert [each.event for each in told.new()] == ["network.create.start", "network.create.end"]
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from nephos.kernel.db.engine import Tx
from nephos.kernel.notifications import outbox
from nephos.settings import Settings
from tests.harness import Harness


def listening(settings: Settings) -> None:
    """A change of settings for Harness: there is somebody to be told."""
    settings.notifications.log = True


class Message(NamedTuple):
    event: str
    payload: Any
    whole: dict[str, Any]
    topic: str
    service: str


class Told:
    """Begins after what the cloud told when it was made."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self.new()

    def new(self) -> list[Message]:
        """What was told since the last time."""

        def take(tx: Tx) -> list[Message]:
            rows = outbox.waiting(tx, "log", 10_000)
            outbox.delivered(tx, [row.id for row in rows])
            found = []
            for row in rows:
                whole = msgspec.json.decode(row.message)
                found.append(Message(whole["event_type"], whole["payload"], whole, row.topic, row.service))
            return found

        return self._harness.cloud.database.write(take)

    def events(self) -> list[str]:
        return [each.event for each in self.new()]
