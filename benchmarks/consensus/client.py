"""The client: `python -m benchmarks.consensus.client SETTINGS`, the settings as JSON; it prints a `Load` as JSON."""

import itertools
import json
import os
import resource
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks.consensus.protocol import HOST, KEY_BYTES
from benchmarks.consensus.speakers import EtcdSpeaker, OwnSpeaker, Speaker
from benchmarks.consensus.tls import Records, TlsFiles, client_context

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
        tls: the client's files; None: in plaintext.
    """

    system: str
    port: int
    what: str
    outstanding: int
    budget_s: float
    count: int = 0
    tls: TlsFiles | None = None


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


class Dialled:
    """A connection to a node, over TLS where there is a context; to be closed.

    Raises:
        OSError: it broke, or the two sides do not agree.
    """

    def __init__(self, port: int, context: ssl.SSLContext | None, *, timeout_s: float | None = None) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._records = None if context is None else self._shake_hands(context)
        except OSError:
            self.socket.close()
            raise

    def _shake_hands(self, context: ssl.SSLContext) -> Records:
        records = Records(context, dials=True)
        agrees, said = records.shake_hands(b"")
        while not agrees:
            self.socket.sendall(said)
            agrees, said = records.shake_hands(self._arrived())
        self.socket.sendall(said)
        return records

    def send(self, data: bytes) -> None:
        """Send all of this."""
        self.socket.sendall(data if self._records is None else self._records.seal(data))

    def receive(self) -> bytes:
        """Read from the socket once: what came by it, which may be nothing yet."""
        arrived = self._arrived()
        return arrived if self._records is None else self._records.open(arrived)

    def _arrived(self) -> bytes:
        if arrived := self.socket.recv(RECEIVED_BYTES):
            return arrived
        raise ConnectionError("the node hung up")

    def __enter__(self) -> "Dialled":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class Connection:
    """One connection and the requests that are under way on it."""

    def __init__(self, settings: LoadSettings, keys: Iterator[bytes]) -> None:
        scheme = b"http" if settings.tls is None else b"https"
        self.speaker: Speaker = EtcdSpeaker(scheme) if settings.system == "etcd" else OwnSpeaker()
        context = None if settings.tls is None else client_context(TlsFiles(*settings.tls))
        if context is not None and settings.system == "etcd":
            context.set_alpn_protocols(["h2"])
        self.dialled = Dialled(settings.port, context)
        self.dialled.send(self.speaker.greeting())
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
        self.dialled.send(b"".join(parts))

    def hear(self) -> tuple[list[float], bytes]:
        """Read once: when the requests were sent that are answered now, and what has to be sent."""
        numbers, replies = self.speaker.feed(self.dialled.receive())
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
        selector.register(connection.dialled.socket, selectors.EVENT_READ, connection)
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
