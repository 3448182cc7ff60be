"""Messages as bytes.

    version u8 · kind u8 · parts u16 · to, sender, term, index, log_term, commit, hint, round, request, each u64
    snapshot · count u32 · entries

`parts` says what the flags are, and whether snapshot and entries follow. The entries are as in `consensus.entries`:
just the bytes of the log.

    snapshot       index u64 · term u64 · configuration · length u32 · data
    configuration  auto_leave u8 · four times, for its tuples in their order: count u32 · ids u64 …

The parts of an image, and the requests for them, have kinds of their own:

    version u8 · kind u8 · length of the image's identity u16 · to u64 · sender u64 · index u64 · offset u64 · identity
    of a part also: CRC32C u32 · data

All numbers are big-endian. Each message has one form: what `decode` takes, `encode` makes of it again.
"""

import struct
from typing import Final

from consensus.entries import decode_entries, encode_entries
from consensus.errors import MalformedMessage
from consensus.messages import (
    Configuration,
    Entry,
    ImagePart,
    ImageRequest,
    Message,
    MessageKind,
    Packet,
    Snapshot,
)

VERSION: Final = 2

_REJECT: Final = 1
_TRANSFER: Final = 2
_LOST: Final = 4
_SNAPSHOT: Final = 8
_ENTRIES: Final = 16
_PARTS_MAX: Final = 31

_IMAGE_REQUEST: Final = 64
_IMAGE_PART: Final = 65

_COUNT: Final = struct.Struct(">I")
_IMAGE: Final = struct.Struct(">BBHQQQQ")
_POSITION: Final = struct.Struct(">QQ")
_PREFIX: Final = struct.Struct(">BB")
_HEAD: Final = struct.Struct(">BBH9Q")
_KINDS: Final = {int(kind): kind for kind in MessageKind}


def encode(message: Packet) -> bytes:
    """The message as bytes."""
    if not isinstance(message, Message):
        return _encode_image(message)
    parts = _REJECT * message.reject | _TRANSFER * message.transfer | _LOST * message.lost
    parts |= _SNAPSHOT * (message.snapshot is not None) | _ENTRIES * bool(message.entries)
    encoded = _HEAD.pack(
        VERSION,
        message.kind,
        parts,
        message.to,
        message.sender,
        message.term,
        message.index,
        message.log_term,
        message.commit,
        message.hint,
        message.round,
        message.request,
    )
    if message.snapshot is not None:
        encoded += encode_snapshot(message.snapshot)
    if message.entries:
        encoded = encode_entries(encoded + _COUNT.pack(len(message.entries)), message.entries)
    return encoded


def _encode_image(message: ImageRequest | ImagePart) -> bytes:
    kind = _IMAGE_PART if isinstance(message, ImagePart) else _IMAGE_REQUEST
    head = _IMAGE.pack(VERSION, kind, len(message.image), message.to, message.sender, message.index, message.offset)
    if isinstance(message, ImagePart):
        return b"".join((head, message.image, _COUNT.pack(message.checksum), message.data))
    return head + message.image


def decode(data: bytes) -> Packet:
    """The message that `encode` made these bytes of. Its entries keep theirs.

    Raises:
        MalformedMessage: they are not one message of this version.
    """
    try:
        return _decode(data)
    except (struct.error, ValueError) as error:
        raise MalformedMessage(
            f"{len(data)} bytes that begin with {data[:32].hex()} are no message: {error}"
        ) from error


def _decode(data: bytes) -> Packet:
    version, kind = _PREFIX.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"they are of version {version} and this node speaks version {VERSION}")
    if kind in (_IMAGE_REQUEST, _IMAGE_PART):
        return _decode_image(data)
    _, _, parts, to, sender, term, index, log_term, commit, hint, round_, request = _HEAD.unpack_from(data)
    if kind not in _KINDS or parts > _PARTS_MAX:
        raise ValueError(f"kind {kind} and parts {parts:#x} are unknown")
    at = _HEAD.size
    snapshot = None
    if parts & _SNAPSHOT:
        snapshot, at = decode_snapshot(data, at)
    entries: tuple[Entry, ...] = ()
    if parts & _ENTRIES:
        (count,) = _COUNT.unpack_from(data, at)
        if not count:
            raise ValueError("they announce entries and have none")
        entries, at = decode_entries(data, at + _COUNT.size, count)
    if at != len(data):
        raise ValueError(f"the message ends at byte {at}")
    what, reject, transfer, lost = _KINDS[kind], bool(parts & _REJECT), bool(parts & _TRANSFER), bool(parts & _LOST)
    # Without names; see `Message`.
    return Message(
        what,
        to,
        sender,
        term,
        index,
        log_term,
        entries,
        commit,
        reject,
        hint,
        snapshot,
        transfer,
        round_,
        request,
        lost,
    )


def _decode_image(data: bytes) -> ImageRequest | ImagePart:
    _, kind, length, to, sender, index, offset = _IMAGE.unpack_from(data)
    at = _IMAGE.size + length
    image = data[_IMAGE.size : at]
    if kind == _IMAGE_REQUEST:
        if at != len(data):
            raise ValueError(f"the request ends at byte {at}")
        return ImageRequest(to, sender, index, image, offset)
    (checksum,) = _COUNT.unpack_from(data, at)
    return ImagePart(to, sender, index, image, offset, data[at + _COUNT.size :], checksum)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """A snapshot as bytes, as in messages and in the heads of the log."""
    configuration = snapshot.configuration
    tuples = (
        configuration.voters,
        configuration.voters_outgoing,
        configuration.learners,
        configuration.learners_next,
    )
    return b"".join(
        (
            _POSITION.pack(snapshot.index, snapshot.term),
            bytes([configuration.auto_leave]),
            *(struct.pack(f">I{len(nodes)}Q", len(nodes), *nodes) for nodes in tuples),
            _COUNT.pack(len(snapshot.data)),
            snapshot.data,
        )
    )


def decode_snapshot(data: bytes, at: int) -> tuple[Snapshot, int]:
    """The snapshot that begins at a place in `data`, and where it ends.

    Raises:
        ValueError, struct.error: there is none.
    """
    index, term = _POSITION.unpack_from(data, at)
    at += _POSITION.size
    auto_leave = data[at : at + 1]
    if auto_leave not in (b"\0", b"\1"):
        raise ValueError(f"a flag is {auto_leave!r}")
    at += 1
    tuples: list[tuple[int, ...]] = []
    for _ in range(4):
        (count,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        if 8 * count > len(data) - at:
            raise ValueError(f"{count} nodes cannot be in {len(data) - at} bytes")
        tuples.append(struct.unpack_from(f">{count}Q", data, at))
        at += 8 * count
    (length,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    if at + length > len(data):
        raise ValueError(f"a snapshot of {length} bytes cannot be in {len(data) - at}")
    voters, voters_outgoing, learners, learners_next = tuples
    configuration = Configuration(voters, voters_outgoing, learners, learners_next, auto_leave == b"\1")
    return Snapshot(index, term, configuration, data[at : at + length]), at + length
