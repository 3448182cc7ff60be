"""Links over TLS: who gets in, who does not and what they are told, and what becomes of bytes that are not theirs."""

import contextlib
import datetime
import ssl
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from trio.testing import MemoryReceiveStream, MemorySendStream

from meshnode.errors import OperatorError
from meshnode.identity import Address, NodeId
from meshnode.links import Channel, LinkRefused, LinksConfig, Tls
from meshnode.links.socket import TLS_ON_BOTH, SocketClosed, TlsRefused
from meshnode.links.tls import TlsStream
from simulations.certificates import Authority
from tests.links.network import GUARD_S, End, MemoryHost, Network, Note, in_virtual_time, network

BULK = bytes(range(256)) * 1500

LONG_AGO = (datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC))

SAME_CA = "do both sides have certificates of the same CA?"

CLIENT_HELLO = b"\x16\x03\x01" + bytes.fromhex("00c4010000c00303") + bytes(32) + b"\x20" + bytes(130)
"""The beginning of a handshake that says it is longer."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA by the same name with another key."""
    return Authority(tmp_path_factory.mktemp("other-ca"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> Tls:
    return authority.tls()


def believing(authority: Authority) -> Tls:
    """Believes the CA, and has no certificate to show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(authority.ca)
    return Tls(context, context)


# ---- who gets in


async def test_nodes_with_certificates_of_one_ca_talk(authority: Authority) -> None:
    async with network() as net:
        one = await net.start(1, tls=authority.tls("one"))
        two = await net.start(2, tls=authority.tls("two"))
        sizes = [0, 1, 16_384, 16_385, 100_000, 5 * 2**20, 3]
        for number, size in enumerate(sizes):
            assert one.links.send(NodeId(2), Channel.CALLS, Note(number, bytes(size)))
            assert two.links.send(NodeId(1), Channel.CALLS, Note(number, bytes(size)))
        await two.until(lambda: len(two.received) == len(sizes))
        await one.until(lambda: len(one.received) == len(sizes))
        assert [(note.number, len(note.data)) for _, note in two.received] == list(enumerate(sizes))


async def test_members_whose_certificates_expired_are_still_linked(authority: Authority, tls: Tls) -> None:
    late = authority.tls("late")
    certificate, key = authority.issue("expired", validity=LONG_AGO)
    late.client.load_cert_chain(certificate, key)  # as if time had passed since they were loaded
    late.server.load_cert_chain(certificate, key)
    async with network() as net:
        one, two = await net.start(1, tls=tls), await net.start(2, tls=late)
        await two.links.connect(one.address)
        await one.links.connect(two.address)


async def refused(net: Network, dialler: Tls | None, listener: Tls | None) -> tuple[OperatorError, End]:
    """Dial; how that was refused, and the one that did not let the dialler in."""
    config = LinksConfig(handshake_timeout_s=GUARD_S)
    one, two = await net.start(1, tls=dialler, config=config), await net.start(2, tls=listener, config=config)
    with trio.fail_after(GUARD_S / 2), pytest.raises(LinkRefused) as caught:
        await one.links.connect(two.address)
    while not two.links.counters.connections_failed:
        await trio.sleep(0.001)
    assert not two.links.linked()
    assert isinstance(caught.value.refusal, OperatorError), caught.value
    return caught.value.refusal, two


async def test_a_listener_of_another_ca_is_refused_and_told(
    authority: Authority, stranger: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with network() as net:
        refusal, two = await refused(net, authority.tls(), stranger.tls())
    assert str(refusal).startswith(f"the certificate of {two.address} is not accepted here: {SAME_CA} (")
    assert reasons(caplog) == ["the other side does not accept the certificate of this side: " + SAME_CA]


async def test_a_dialler_of_another_ca_is_refused_and_told(
    authority: Authority, stranger: Authority, tls: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    cunning = stranger.tls()
    cunning.client.load_verify_locations(authority.ca)  # it believes the listener, who does not believe it
    async with network() as net:
        refusal, two = await refused(net, cunning, tls)
    assert str(refusal) == f"{two.address} does not accept the certificate of this side: " + SAME_CA
    (reason,) = reasons(caplog)
    assert reason.startswith(f"the certificate of the other side is not accepted here: {SAME_CA} (")


async def test_a_dialler_without_a_certificate_is_refused_and_told(
    authority: Authority, tls: Tls, caplog: pytest.LogCaptureFixture
) -> None:
    async with network() as net:
        refusal, two = await refused(net, believing(authority), tls)
    assert str(refusal) == f"{two.address} asks for a certificate, and this side has none"
    assert reasons(caplog) == ["the other side shows no certificate"]


async def test_a_dialler_without_tls_is_refused_and_told(tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    async with network() as net:
        refusal, two = await refused(net, None, tls)
    assert str(refusal) == f"{two.address} speaks TLS, and this side does not: {TLS_ON_BOTH}"
    assert reasons(caplog) == [f"the other side speaks no TLS, and this side does: {TLS_ON_BOTH}"]


async def test_a_listener_without_tls_is_refused_and_told(tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    async with network() as net:
        refusal, two = await refused(net, tls, None)
    assert str(refusal) == f"{two.address} speaks no TLS, and this side does: {TLS_ON_BOTH}"
    assert reasons(caplog) == [f"the other side speaks TLS, and this side does not: {TLS_ON_BOTH}"]


# ---- strangers


@pytest.mark.parametrize(
    "opening",
    [
        b"",
        b"\0",
        b"\x16\x03\x01\x40\x00" + bytes(100),
        b"\x16\x03\x01\x00\x02\1\0",
        b"GET",
        b"\xff" * 100_000,
        CLIENT_HELLO[:99],
    ],
    ids=lambda opening: f"{opening[:8]!r}",
)
def test_whoever_does_not_finish_its_handshake_is_hung_up_on_in_time(opening: bytes, tls: Tls) -> None:
    async def scenario(net: Network, host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        one, two = await net.start(1, tls=tls), await net.start(2, tls=tls)
        stream = await host.dial(two.address)
        await stream.send_all(opening)
        began_s = trio.current_time()
        while await stream.receive_some():
            pass
        assert trio.current_time() - began_s <= LinksConfig().handshake_timeout_s
        await trio.sleep_until(began_s + LinksConfig().handshake_timeout_s + 0.001)
        assert two.links.counters.connections_failed == 1
        assert two.links._accepted == 0
        assert one.links.send(NodeId(2), Channel.CALLS, Note(1))
        await two.until(lambda: two.received)

    in_virtual_time(scenario)


async def test_a_stranger_that_talks_on_after_its_refusal_is_cut_off(tls: Tls) -> None:
    async with network() as net:
        two = await net.start(2, tls=tls, config=LinksConfig(handshake_timeout_s=3600.0))
        async with await two.dialled() as stream:
            with trio.fail_after(GUARD_S), contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"\xff" * 2**16)


def test_strangers_leave_a_line_in_the_log_once_a_minute(tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(net: Network, _host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        one, two = await net.start(1), await net.start(2, tls=tls)
        for _ in range(2):
            for _ in range(5):
                with pytest.raises(LinkRefused):
                    await one.links.connect(two.address)
            await trio.sleep(60)

    in_virtual_time(scenario)
    assert len(reasons(caplog)) == 2


def test_a_listener_that_says_nothing_is_given_up_in_time(tls: Tls) -> None:
    async def scenario(net: Network, host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        one = await net.start(1, tls=tls)
        listener, address = await host.listen(Address("127.0.0.1", 0))
        async with listener:
            with pytest.raises(LinkRefused, match=r"no handshake within 5\.0 s"):
                await one.links.connect(address)

    in_virtual_time(scenario)


def test_the_end_of_a_run_ends_handshakes(tls: Tls) -> None:
    async def scenario(net: Network, host: MemoryHost, _clock: trio.testing.MockClock) -> None:
        one = await net.start(1, tls=tls)
        stream = await host.dial(one.address)
        await stream.send_all(CLIENT_HELLO)
        await trio.testing.wait_all_tasks_blocked()
        one.scope.cancel()
        while await stream.receive_some():
            pass
        assert trio.current_time() < LinksConfig().handshake_timeout_s

    in_virtual_time(scenario)


# ---- bytes


class Pair:
    """Two ends of one connection in memory, and what went over it, as it was sent piece by piece."""

    def __init__(self, client: Tls, server: Tls, *, piece_bytes: int | None = None) -> None:
        self.here, self.there = trio.testing.memory_stream_pair()
        self.client, self.server = client.over(self.here, dials=True), server.over(self.there, dials=False)
        self.sent: list[tuple[str, int]] = []
        self.wire = b""
        self._note("client", self.here.send_stream, self.there.receive_stream, piece_bytes)
        self._note("server", self.there.send_stream, self.here.receive_stream, piece_bytes)

    def _note(self, who: str, sender: MemorySendStream, receiver: MemoryReceiveStream, piece_bytes: int | None) -> None:
        async def pass_on() -> None:
            data = bytes(sender.get_data_nowait())
            self.sent.append((who, len(data)))
            self.wire += data
            for begin in range(0, len(data), piece_bytes or len(data)):
                receiver.put_data(data[begin : begin + (piece_bytes or len(data))])
                if piece_bytes is not None:
                    await trio.testing.wait_all_tasks_blocked()

        sender.send_all_hook = pass_on

    async def shake_hands(self) -> None:
        with trio.fail_after(GUARD_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.client.shake_hands)
                nursery.start_soon(self.server.shake_hands)


async def read_all(stream: TlsStream, max_bytes: int | None = None) -> bytes:
    data = b""
    while part := await stream.receive_some(max_bytes):
        assert max_bytes is None or len(part) <= max_bytes
        data += part
    return data


async def test_nothing_that_is_said_can_be_read_on_the_way(tls: Tls) -> None:
    pair = Pair(tls, tls)
    await pair.shake_hands()
    await pair.client.send_all(b"a secret")
    assert await pair.server.receive_some() == b"a secret"
    await pair.server.send_all(b"another secret")
    assert await pair.client.receive_some() == b"another secret"
    assert b"secret" not in pair.wire


async def test_handshakes_with_certificates_of_one_ca_have_constant_length(authority: Authority) -> None:
    seen = []
    for number in range(10):
        pair = Pair(authority.tls(f"c{number}"), authority.tls(f"s{number}"))
        await pair.shake_hands()
        await pair.server.send_all(b"x")
        seen.append(pair.sent)
    assert [who for who, _size in seen[0]] == ["client", "server", "client", "server"], "no tickets"
    assert all(sent == seen[0] for sent in seen)


async def test_bytes_may_come_one_at_a_time_and_be_taken_in_small_pieces(tls: Tls) -> None:
    pair = Pair(tls, tls, piece_bytes=1)
    await pair.shake_hands()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.client.send_all, BULK[:100])
        assert await pair.server.receive_some(7) == BULK[:7]
        data = BULK[:7]
        while len(data) < 100:
            part = await pair.server.receive_some(7)
            assert 1 <= len(part) <= 7
            data += part
    assert data == BULK[:100]


async def test_what_arrived_in_one_piece_is_taken_in_one_piece(tls: Tls) -> None:
    pair = Pair(tls, tls)
    await pair.shake_hands()
    await pair.client.send_all(BULK[:60_000])  # several records
    assert await pair.server.receive_some(2**16) == BULK[:60_000]


async def test_taking_what_has_arrived_gives_others_their_turn(tls: Tls) -> None:
    pair = Pair(tls, tls)
    await pair.shake_hands()
    await pair.client.send_all(BULK)
    for _ in range(5):
        with trio.testing.assert_checkpoints():
            await pair.server.receive_some(100)
        with trio.testing.assert_checkpoints():
            await pair.client.send_all(b"")


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), size=st.sampled_from([1, 100, 40_000])
)
def test_of_bytes_that_were_changed_none_comes_out(tls: Tls, position: float, flip: int, size: int) -> None:
    async def main() -> None:
        pair, data = await sent(tls, size)
        at = int(position * len(data))
        data[at] ^= flip
        pair.there.receive_stream.put_data(data)
        pair.there.receive_stream.put_eof()
        received = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while part := await pair.server.receive_some():  # it may announce a longer record than comes
                received += part
        assert BULK.startswith(received)
        assert len(received) <= at

    trio.run(main)


@hypothesis.settings(max_examples=30)
@hypothesis.given(position=st.floats(0, 1, exclude_max=True))
def test_a_connection_that_is_cut_off_ends_with_what_was_whole(tls: Tls, position: float) -> None:
    async def main() -> None:
        pair, data = await sent(tls, 40_000)
        whole = int(position * len(data))
        pair.there.receive_stream.put_data(data[:whole])
        pair.there.receive_stream.put_eof()
        received = await read_all(pair.server)
        assert BULK.startswith(received)
        assert whole - 2**15 < len(received) <= whole

    trio.run(main)


async def sent(tls: Tls, size: int) -> tuple[Pair, bytearray]:
    """What goes over the wire for so many bytes, after the handshake."""
    pair = Pair(tls, tls)
    await pair.shake_hands()
    pair.here.send_stream.send_all_hook = None
    await pair.client.send_all(BULK[:size])
    return pair, bytearray(pair.here.send_stream.get_data_nowait())


async def test_garbage_after_the_handshake_ends_the_connection_only(tls: Tls) -> None:
    async with network() as net:
        one, two = await net.start(1, tls=tls), await net.start(2, tls=tls)
        async with await two.dialled() as bare:
            stream = tls.over(bare, dials=True)
            await stream.shake_hands()
            await bare.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
            with trio.fail_after(GUARD_S), contextlib.suppress(trio.BrokenResourceError):
                while await bare.receive_some():
                    pass
        await one.links.connect(two.address)


def expanded(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446, 7.1) with an empty context."""
    name = b"tls13 " + label
    info = length.to_bytes(2) + bytes([len(name)]) + name + b"\0"
    return HKDFExpand(SHA384(), length, info).derive(secret)


def requests_for_new_keys(secret: bytes, count: int) -> list[bytes]:
    """Records in which a side asks for new keys each time, from its first traffic secret on (RFC 8446, 4.6.3, 5.2)."""
    records = []
    for _ in range(count):
        head = b"\x17\x03\x03" + (5 + 1 + 16).to_bytes(2)
        key, nonce = expanded(secret, b"key", 32), expanded(secret, b"iv", 12)
        records.append(head + AESGCM(key).encrypt(nonce, b"\x18\0\0\x01\x01\x16", head))
        secret = expanded(secret, b"traffic upd", 48)
    return records


async def test_a_side_that_asks_for_new_keys_all_the_time_is_not_answered_for_ever(
    authority: Authority, tls: Tls, tmp_path: Path
) -> None:
    asking = authority.tls("asking")
    asking.client.keylog_filename = str(tmp_path / "keys")
    pair = Pair(asking, tls)
    await pair.shake_hands()
    assert pair.client._object.cipher()[0] == "TLS_AES_256_GCM_SHA384"  # type: ignore[index]
    lines = [line.split() for line in (tmp_path / "keys").read_text().splitlines()]
    (secret,) = [bytes.fromhex(line[2]) for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"]
    requests = requests_for_new_keys(secret, 400)
    answered = 0

    async def read() -> None:
        with pytest.raises(trio.BrokenResourceError, match="the other side asks for new keys all the time"):
            await pair.server.receive_some()

    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for request in requests:
                pair.there.receive_stream.put_data(request)
                await trio.testing.wait_all_tasks_blocked()
                answered = max(answered, pair.server._outgoing.pending)
            pair.there.receive_stream.put_eof()
    assert 100 < answered / len(requests[0]) < 200


async def test_plain_http_is_told_however_it_is_cut(tls: Tls) -> None:
    here, there = trio.testing.memory_stream_pair()
    client = tls.over(here, dials=True)

    async def answer() -> None:
        await there.receive_some()
        for byte in b"HTTP/1.1 400 Bad Request\r\n\r\n":
            await there.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        await there.send_eof()

    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            with pytest.raises(TlsRefused, match="speaks no TLS, and this side does"):
                await client.shake_hands()


async def test_an_older_tls_is_refused_and_told(authority: Authority, tls: Tls) -> None:
    old = believing(authority)
    old.client.minimum_version = old.client.maximum_version = ssl.TLSVersion.TLSv1_2
    pair = Pair(old, tls)
    failures: list[str] = []

    async def shake_hands(stream: TlsStream) -> None:
        with pytest.raises(SocketClosed) as caught:
            await stream.shake_hands()
        failures.append(str(caught.value))
        await stream.aclose()

    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake_hands, pair.client)
            nursery.start_soon(shake_hands, pair.server)
    assert set(failures) == {"the other side speaks no TLS 1.3", "the other side speaks TLS 1.3 only"}


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why connections were refused, as the log has it."""
    lines: list[Any] = [record.msg for record in caplog.records]
    return [line["reason"] for line in lines if line["event"] == "a connection is refused"]
