"""TLS 1.3 (RFC 8446) between a stream and the WebSocket, with a certificate on each side.

Not trio's own `SSLStream`: that one keeps its alerts to itself, so that a side whose certificate is refused would not
learn why, and it hands out one record a time, which costs a turn of the loop for each 16 KiB.
"""

import ssl
from dataclasses import dataclass

import trio

from meshnode.links.socket import RECEIVE_BYTES, TLS_ON_BOTH, TLS_REQUIRED, SocketClosed, TlsRefused

RECORD_BYTES_MAX = 16 * 2**10
"""What one record carries (RFC 8446, 5.1)."""

SEND_BYTES = 16 * RECORD_BYTES_MAX
"""What is encrypted at a time: a frame of many MiB does not lie here twice."""

LAST_READS_MAX = 16
"""Of what somebody sends who is refused: a node that dials has said no more before it knows."""

ANSWERS_BYTES_MAX = 4096
"""What waits to be sent when nothing is being sent: OpenSSL's answers to requests for new keys (RFC 8446, 4.6.3), which
no node makes. Some 150 of them."""

FAR = "the other side"

PLAIN_HTTP = b"HTTP/"
"""How a side that speaks no TLS answers what it takes for a bad request."""

_SAME_CA = "do both sides have certificates of the same CA?"
_NOT_ACCEPTED = f"{{far}} does not accept the certificate of this side: {_SAME_CA}"

# What can't come from bytes that were damaged on their way, and so is for an operator; by OpenSSL's names.
_REFUSALS = {
    "CERTIFICATE_VERIFY_FAILED": f"the certificate of {{far}} is not accepted here: {_SAME_CA}",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "{far} shows no certificate",
    "HTTP_REQUEST": f"{{far}} speaks no TLS, and this side does: {TLS_ON_BOTH}",
    "UNSUPPORTED_PROTOCOL": "{far} speaks no TLS 1.3",
    "TLSV1_ALERT_PROTOCOL_VERSION": "{far} speaks TLS 1.3 only",
    "TLSV1_ALERT_UNKNOWN_CA": _NOT_ACCEPTED,
    "TLSV1_ALERT_DECRYPT_ERROR": _NOT_ACCEPTED,  # of a CA by the same name with another key
    "SSLV3_ALERT_BAD_CERTIFICATE": "{far} finds a fault in the certificate of this side",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "{far} can't use the certificate of this side",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "{far} asks for a certificate, and this side has none",
}


@dataclass(frozen=True, slots=True)
class Tls:
    """How a node or client proves who it is, and whom it believes; `meshnode.load_tls` makes one from files.

    Attributes:
        client, server: for the side that dials and the side that accepts. Both are to ask for a certificate.
    """

    client: ssl.SSLContext
    server: ssl.SSLContext

    def over(self, stream: trio.abc.HalfCloseableStream, *, dials: bool, far: str = FAR) -> "TlsStream":
        """A private stream over an open one; its handshake is still to come. ``far`` is the other side, for people."""
        return TlsStream(stream, self.client if dials else self.server, dials=dials, far=far)


class TlsStream(trio.abc.Stream):
    """Bytes that nobody else can read or change. One task may send and one may receive at a time.

    Its end says nothing: whoever can cut the connection can do so anywhere, and links allow for that.

    Attributes:
        refusal: why the two sides will never agree, as soon as either has found out.
    """

    def __init__(
        self, stream: trio.abc.HalfCloseableStream, context: ssl.SSLContext, *, dials: bool, far: str = FAR
    ) -> None:
        self.refusal: TlsRefused | None = None
        self._stream = stream
        self._far = far
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=not dials)

    async def shake_hands(self) -> None:
        """Agree with the other side; the accepting side knows then that it is believed, the dialling side does not yet.

        Raises:
            SocketClosed: the two do not agree, and the other side was told why. `TlsRefused` if an operator must act.
            BrokenResourceError: the connection ended.
        """
        first = b""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError as error:
                failure = self._noted(error, speaks_http=first == PLAIN_HTTP)
                await self._say_why(error)
                raise failure from error
            else:
                return await self._flush()
            arrived = bytes(await self._stream.receive_some(RECEIVE_BYTES))
            if not arrived:
                raise SocketClosed(f"{self._far} ended the connection in the TLS handshake: does it speak TLS?")
            first = (first + arrived)[: len(PLAIN_HTTP)]
            self._incoming.write(arrived)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Raises BrokenResourceError, also for bytes that the other side did not send."""
        size = max_bytes or RECEIVE_BYTES
        if self._has_more():
            await trio.lowlevel.checkpoint()
        while True:
            if self._has_more() and (data := self._decrypted(size)) is not None:
                return data
            arrived = await self._stream.receive_some(size)
            if not arrived:
                return b""
            self._incoming.write(arrived)
            if self._outgoing.pending > ANSWERS_BYTES_MAX:
                raise trio.BrokenResourceError(f"{self._far} asks for new keys all the time")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Raises BrokenResourceError. After one that was cut off there must be no other."""
        if not data:
            await trio.lowlevel.checkpoint()
        view = memoryview(data)
        for begin in range(0, len(view), SEND_BYTES):
            piece = view[begin : begin + SEND_BYTES]
            try:
                written = self._object.write(piece)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(str(self._noted(error))) from error
            assert written == len(piece), "a buffer in memory takes everything"
            await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _has_more(self) -> bool:
        """Whether something arrived that was not handed out; it may be the beginning of a record."""
        return bool(self._incoming.pending or self._object.pending())

    def _decrypted(self, size: int) -> bytes | None:
        """As much as has arrived and is allowed; empty at the end, None as long as there is nothing."""
        parts: list[bytes] = []
        try:
            while size > 0 and (part := self._object.read(min(size, RECORD_BYTES_MAX))):
                parts.append(part)
                size -= len(part)
                if not self._has_more():
                    break
        except ssl.SSLWantReadError:
            if not parts:
                return None
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(str(self._noted(error))) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._stream.send_all(self._outgoing.read())

    async def _say_why(self, error: ssl.SSLError) -> None:
        """Let the other side hear of the failure, in the language that it speaks.

        A connection that is closed while something is still to be read takes back what was said: so it is read, up to a
        bound, for as long as the handshake may take.
        """
        if error.reason == "HTTP_REQUEST":
            self._outgoing.read()
            await self._stream.send_all(TLS_REQUIRED)
        await self._flush()
        await self._stream.send_eof()
        for _ in range(LAST_READS_MAX):
            if not await self._stream.receive_some(RECEIVE_BYTES):
                break

    def _noted(self, error: ssl.SSLError, *, speaks_http: bool = False) -> SocketClosed:
        reason = _REFUSALS.get("HTTP_REQUEST" if speaks_http else error.reason or "")
        if reason is None:
            return SocketClosed(f"no TLS with {self._far}: {error}")
        reason = reason.format(far=self._far)
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"{reason} ({error.verify_message})"
        self.refusal = TlsRefused(reason)
        return self.refusal
