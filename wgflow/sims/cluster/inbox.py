"""What happens in a cluster, told by Dask's threads to the one that runs a sweep."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from wgflow.sims.cluster.on_worker import TOPIC

if TYPE_CHECKING:
    from distributed import Client


class Message(NamedTuple):
    """Something that has happened.

    A member is ``done`` (its future) or ``at`` s (its number), a worker has ``come`` or ``gone``, killed or not.
    """

    kind: str
    about: Any
    value: Any = None


class Inbox:
    """Messages in the order in which they came."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def put(self, message: Message) -> None:
        """Add a message, from any thread."""
        self._queue.put(message)

    def get(self, seconds: float) -> Message:
        """Next message; an empty one if none comes in time."""
        with contextlib.suppress(queue.Empty):
            return self._queue.get(timeout=seconds) if seconds else self._queue.get_nowait()
        return Message("", None)

    @contextlib.contextmanager
    def listening(self, client: Client, sweep: str) -> Iterator[None]:
        """Take the events of a sweep and of the cluster's workers."""

        def of_member(event: tuple[float, Any]) -> None:
            whose, number, s = event[1]
            if whose == sweep:
                self.put(Message("at", number, s))

        def of_worker(event: tuple[float, Any]) -> None:
            kind = event[1].get("action")
            if kind == "add-worker":
                self.put(Message("come", event[1]["worker"]))
            elif kind == "remove-worker":
                self.put(Message("gone", event[1]["worker"], not event[1]["expected"]))

        topics = {TOPIC: of_member, "all": of_worker}
        for topic, handler in topics.items():
            client.subscribe_topic(topic, handler)
        try:
            yield
        finally:
            if client.status == "running":
                for topic in topics:
                    client.unsubscribe_topic(topic)
