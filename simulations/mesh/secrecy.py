"""Links over TLS in a run that repeats itself to the byte.

OpenSSL draws keys of its own that nobody can seed, so no two runs send the same bytes. But they send as many: with
certificates of one authority, Ed25519 and without tickets, handshakes have constant lengths, and records are as long as
what is in them. So of what is on the wire the trace has the sizes, and the bytes of what comes out of it.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from meshnode import Tls
from meshnode.links.tls import FAR, TlsStream
from simulations.hosts import Trace
from simulations.hosts.streams import SimStream
from simulations.kernel import Events


@dataclass(frozen=True, slots=True)
class TracedTls(Tls):
    """Tells the trace what arrives."""

    trace: Trace
    events: Events

    def over(self, stream: trio.abc.HalfCloseableStream, *, dials: bool, far: str = FAR) -> TlsStream:
        assert isinstance(stream, SimStream)
        subject = f"{stream.remote} → {stream.local}"

        def note(data: bytes) -> None:
            self.trace.note(self.events.now, "plaintext", subject, data)

        return _TracedStream(stream, self.client if dials else self.server, note=note, dials=dials, far=far)


class _TracedStream(TlsStream):
    def __init__(self, *arguments: Any, note: Callable[[bytes], None], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._note = note

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await super().receive_some(max_bytes)
        self._note(data)
        return data


def traced_tls(trace: Trace, events: Events) -> TracedTls:
    """With a certificate that all nodes and clients of a run share.

    Raises:
        ImportError: the package that makes it is not installed.
    """
    try:
        from simulations.certificates import Authority
    except ImportError as error:
        advice = "pip install 'meshnode[simulate-tls]'"
        raise ImportError(f"a mesh with TLS needs a package that makes certificates ({error}): {advice}") from error
    with tempfile.TemporaryDirectory() as folder:
        tls = Authority(Path(folder)).tls()
    return TracedTls(tls.client, tls.server, trace, events)
