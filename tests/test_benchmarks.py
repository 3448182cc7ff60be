"""What the benchmark of consensus says and hears."""

import functools
import random
import shutil
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.consensus.client import Connection, Dialled, LoadSettings, keys
from benchmarks.consensus.clusters import EtcdCluster, OwnCluster, Processes, issued
from benchmarks.consensus.protocol import Frames, framed
from benchmarks.consensus.speakers import EtcdSpeaker, Failed, OwnSpeaker
from benchmarks.consensus.tls import Records, TlsFiles, client_context
from meshnode.certificates import load_tls

DATA, HEADERS, PING, WINDOW_UPDATE = 0, 1, 6, 8
END_STREAM, ACK = 1, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


@given(st.lists(st.binary(max_size=20), max_size=6), st.integers(1, 7))
def test_frames_come_out_whole_however_they_are_cut(bodies: list[bytes], size: int) -> None:
    stream = b"".join(map(framed, bodies))
    frames, found = Frames(), []
    for begin in range(0, len(stream), size):
        found += frames.feed(stream[begin : begin + size])
    assert found == bodies


def test_a_call_is_answered_when_its_stream_ends_after_a_message() -> None:
    speaker = EtcdSpeaker()
    (first, _), (second, _) = speaker.put(b"key", b"value"), speaker.get(b"key")
    answer = frame(HEADERS, 4, first) + frame(DATA, 0, first, b"\0" * 9) + frame(HEADERS, 4 | END_STREAM, first)
    assert speaker.feed(answer[:30]) == ([], b"")
    assert speaker.feed(answer[30:]) == ([first], b"")
    with pytest.raises(Failed):
        speaker.feed(frame(HEADERS, 4 | END_STREAM, second))


def test_no_more_is_sent_than_the_server_allows() -> None:
    speaker = EtcdSpeaker()
    sent = b""
    numbers = []
    for _ in range(300):
        number, request = speaker.put(b"key", bytes(250))
        numbers.append(number)
        sent += request
    assert sent.count(bytes(250)) == 65_535 // (5 + 5 + 253)
    _, held = speaker.feed(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)))
    assert sent.count(bytes(250)) + held.count(bytes(250)) == len(numbers) == len(set(numbers))


def test_the_server_s_pings_are_answered() -> None:
    assert EtcdSpeaker().feed(frame(PING, 0, 0, b"12345678")) == ([], frame(PING, ACK, 0, b"12345678"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[TlsFiles]:
    """For a node, and for its client, of the same CA."""
    first, *_, last = (one for one in issued(tmp_path_factory.mktemp("ca"), tls=True) if one is not None)
    return [first, last]


@given(st.lists(st.integers(0, 40_000), max_size=5), st.integers(500, 50_000))
def test_what_was_sealed_comes_out_whole_however_it_is_cut(files: list[TlsFiles], sizes: list[int], size: int) -> None:
    sent = [random.Random(length).randbytes(length) for length in sizes]
    near = Records(client_context(files[1]), dials=True)
    far = Records(load_tls(*files[0]).server, dials=False)
    agrees, said = near.shake_hands(b"")
    assert not agrees
    agrees, said = far.shake_hands(said)
    assert not agrees
    agrees, said = near.shake_hands(said)
    assert agrees
    stream = said + b"".join(map(near.seal, sent))  # the first arrives together with the end of the handshake
    opened = answers = b""
    agrees = False
    for begin in range(0, len(stream), size):
        piece = stream[begin : begin + size]
        if not agrees:
            agrees, answers = far.shake_hands(piece)
            piece = b""
        if agrees:
            opened += far.open(piece)
    assert opened == b"".join(sent)
    assert near.open(answers + far.seal(opened)) == opened


def exchange(settings: LoadSettings, count: int) -> None:
    """Have so many requests answered."""
    connection = Connection(settings, keys())
    with connection.dialled:
        connection.ask(count)
        answered = 0
        while answered < count:
            numbers, replies = connection.hear()
            answered += len(numbers)
            if replies:
                connection.ask(0, first=replies)


def ask(port: int, context: ssl.SSLContext | None) -> None:
    """Send something and wait for an answer: only by this one a client knows that its certificate was accepted."""
    with Dialled(port, context, timeout_s=10.0) as dialled:
        dialled.send(OwnSpeaker().status()[1])
        while not dialled.receive():
            pass


@pytest.mark.process
@pytest.mark.parametrize(
    ("system", "start"),
    [
        ("meshnode", functools.partial(OwnCluster, fsync=False)),
        pytest.param("etcd", EtcdCluster, marks=pytest.mark.skipif(shutil.which("etcd") is None, reason="no etcd")),
    ],
)
def test_with_tls_a_system_serves_who_has_a_certificate_and_nobody_else(
    system: str, start: Callable[..., OwnCluster | EtcdCluster], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    *_, other = issued(tmp_path / "other", tls=True)
    with Processes() as processes:
        cluster = start(processes, tmp_path, tls=True)
        leader, files = cluster.leader(), cluster.client_files
        assert files is not None
        assert other is not None
        for what in ("put", "get"):
            exchange(LoadSettings(system, cluster.port(leader), what, 300, 0.0, tls=files), 300)
        without = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        without.load_verify_locations(files.ca)
        for context in (None, without, client_context(other._replace(ca=files.ca))):
            for port in (cluster.port(leader), cluster.peer_ports[leader]):
                with pytest.raises((ConnectionError, ssl.SSLError)):
                    ask(port, context)
