"""The client: `python -m benchmarks.consensus.client SETTINGS`, the settings as JSON; it prints a `Load` as JSON."""

import itertools
import json
import os
import resource
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks.consensus.protocol import KEY_BYTES
from benchmarks.consensus.speakers import EtcdSpeaker, OwnSpeaker, Speaker

KEYS: Final = 10_000
VALUE_BYTES: Final = 256
CONNECTIONS: Final = 4
WARM_UP_S: Final = 0.5
RECEIVED_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What the client is told.

    Attributes:
        system: whose protocol to speak.
        port: of the node to speak to.
        what: "put" or "get".
        outstanding: requests that are under way at any time.
        budget_s: how long to measure; or, if `count` is not 0,
        count: how many requests to make instead.
    """

    system: str
    port: int
    what: str
    outstanding: int
    budget_s: float
    count: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What was measured.

    Attributes:
        count: requests that were answered, those of the time to warm up included.
    """

    count: int
    per_s: float
    p50_ms: float
    p99_ms: float
    client_cpu_percent: float


class Connection:
    """One connection and the requests that are under way on it."""

    def __init__(self, settings: LoadSettings, keys: Iterator[bytes]) -> None:
        self.speaker: Speaker = EtcdSpeaker() if settings.system == "etcd" else OwnSpeaker()
        self.socket = socket.create_connection(("127.0.0.1", settings.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(self.speaker.greeting())
        self._is_put = settings.what == "put"
        self._keys = keys
        self._value = os.urandom(VALUE_BYTES)
        self._sent_at: dict[int, float] = {}

    def ask(self, count: int, *, first: bytes = b"") -> None:
        """Send so many requests."""
        parts, now = [first], time.perf_counter()
        for key in itertools.islice(self._keys, count):
            number, request = self.speaker.put(key, self._value) if self._is_put else self.speaker.get(key)
            self._sent_at[number] = now
            parts.append(request)
        self.socket.sendall(b"".join(parts))

    def hear(self) -> tuple[list[float], bytes]:
        """Read once: when the requests were sent that are answered now, and what has to be sent."""
        data = self.socket.recv(RECEIVED_BYTES)
        if not data:
            raise ConnectionError("the node hung up")
        numbers, replies = self.speaker.feed(data)
        return [self._sent_at.pop(number) for number in numbers], replies


def keys() -> Iterator[bytes]:
    """Keys in turn, without an end."""
    return itertools.cycle([b"%0*d" % (KEY_BYTES, number) for number in range(KEYS)])


def run(settings: LoadSettings) -> Load:
    """Keep the requests outstanding for the time, after a while to warm up."""
    source = keys()
    connections = [Connection(settings, source) for _ in range(min(CONNECTIONS, settings.outstanding))]
    selector = selectors.DefaultSelector()
    left = settings.count or sys.maxsize
    for place, connection in enumerate(connections):
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        share = settings.outstanding // len(connections) + (place < settings.outstanding % len(connections))
        connection.ask(share)
        left -= share
    begin = time.perf_counter() + (0 if settings.count else WARM_UP_S)
    end = float("inf") if settings.count else begin + settings.budget_s
    cpu_s = _cpu_s()
    latencies: list[float] = []
    now = 0.0
    under_way = settings.outstanding
    is_warm = False
    count = 0
    while now < end and under_way:
        for key, _ in selector.select():
            connection = key.data
            sent_at, replies = connection.hear()
            now = time.perf_counter()
            count += len(sent_at)
            if now >= begin:
                if not is_warm:
                    is_warm, begin, cpu_s = True, now, _cpu_s()
                    end = max(end, begin + settings.budget_s)
                else:
                    latencies += [now - at for at in sent_at]
            more = min(len(sent_at), left)
            left -= more
            under_way -= len(sent_at) - more
            if more or replies:
                connection.ask(more, first=replies)
    took_s = now - begin
    latencies.sort()
    return Load(
        count,
        len(latencies) / took_s,
        1e3 * latencies[len(latencies) // 2],
        1e3 * latencies[len(latencies) * 99 // 100],
        100 * (_cpu_s() - cpu_s) / took_s,
    )


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(run(LoadSettings(**json.loads(sys.argv[1]))))) + "\n")
