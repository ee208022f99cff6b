"""Queues in Redis: one list each."""

from __future__ import annotations

from queue import Empty
from typing import Any

from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str

from mlpq.broker.messages import is_wake_up, wake_up


class Channel(redis.Channel):
    """kombu's channel, which drops what is not a wake-up, and keeps no routing table in Redis."""

    supports_fanout = False  # all messages go to the queue that they name
    get_table = virtual.Channel.get_table

    def _brpop_read(self, **options: Any) -> bool:
        """As kombu's method, except for what is delivered."""
        try:
            try:
                found = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()  # the next round connects again
                raise
            if not found:
                raise Empty
            queue = bytes_to_str(found[0]).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            if is_wake_up(found[1], queue):
                self.connection._deliver(wake_up(queue), queue)
            return True
        finally:
            self._in_poll = None  # type: ignore[assignment]  # as kombu does
            self._flush_brpop_reauth()


class Transport(redis.Transport):
    Channel = Channel
