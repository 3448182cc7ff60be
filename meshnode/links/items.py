"""What a message would cost to decode, judged before it is decoded."""

_TEXT_OR_BYTES = (2, 3)


def has_at_most(items_max: int, data: bytes | memoryview) -> bool:
    """Whether the CBOR (RFC 8949) in ``data`` decodes to at most ``items_max`` items, at every depth together.

    Nothing is built: a megabyte of empty arrays is a million objects once decoded, and here a count that stops early.
    Malformed bytes count up to where they go wrong, as a decoder gets no further.
    """
    if len(data) <= items_max:
        return True  # each item has a byte at least
    offset = count = 0
    while offset < len(data):
        count += 1
        if count > items_max:
            return False
        major, argument = data[offset] >> 5, data[offset] & 0x1F
        offset += 1
        if 24 <= argument <= 27:
            size = 1 << (argument - 24)
            argument = int.from_bytes(data[offset : offset + size], "big")
            offset += size
        elif argument > 27:
            return True  # an indefinite length or a reserved number: the codec takes neither
        if major in _TEXT_OR_BYTES:
            offset += argument
    return True
