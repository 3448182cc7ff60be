"""TLS 1.3 (RFC 8446) on the connections of the benchmark, with a certificate on each side."""

import ssl
from typing import Final, NamedTuple

from benchmarks.consensus.protocol import HOST

RECORD_BYTES_MAX: Final = 1 << 14
"""What one record carries (RFC 8446, 5.1)."""


class TlsFiles(NamedTuple):
    """Where a node or client finds, in PEM, the CA's certificate, its own, and the key to this."""

    ca: str
    certificate: str
    key: str


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For a client of either system: it asks for a certificate of the CA, in the name of our address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.key)
    return context


class Records:
    """One side of a connection, without I/O: what it wants to say as records for the socket, and back.

    What TLS itself has to say after the handshake goes out with the next record of ours, which is soon enough.
    """

    def __init__(self, context: ssl.SSLContext, *, dials: bool) -> None:
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._arrived, self._leaving, server_side=not dials, server_hostname=HOST if dials else None
        )

    def shake_hands(self, arrived: bytes) -> tuple[bool, bytes]:
        """Whether this side agrees by now, and what has to be sent.

        Raises:
            ssl.SSLError: it never will.
        """
        self._arrived.write(arrived)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False, self._leaving.read()
        return True, self._leaving.read()

    def seal(self, data: bytes) -> bytes:
        """Records that carry this."""
        if data:
            self._object.write(data)  # a buffer in memory takes everything
        return self._leaving.read()

    def open(self, arrived: bytes) -> bytes:
        """What the records carry that are whole by now.

        Raises:
            ssl.SSLError: they are not the other side's.
        """
        self._arrived.write(arrived)
        parts = []
        while self._arrived.pending:  # nothing is left of a record elsewhere, since all of it is read at once
            try:
                part = self._object.read(RECORD_BYTES_MAX)
            except ssl.SSLWantReadError:
                break
            if not part:  # the other side says that it ends
                break
            parts.append(part)
        return b"".join(parts)
