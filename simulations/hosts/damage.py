"""Bytes that arrive as others than were sent.

What may be shown to a node is what a node can notice. Checksums of IP catch nearly all damage, and links are to be
encrypted: a byte that flips there ends the connection at its record. So that a run in plaintext asks no more of a node:

- A datagram may be cut off, grow, lose bits or be mostly noise, unless the receiver would still take it for a message:
  that one is lost, as if its checksum were wrong. No node can tell it from a genuine one.
- The first thing that each end of a connection sends, its part of the handshake, may be damaged anywhere.
- Later, damage begins where something that was sent begins, with a frame's head, and from there on all that arrives at
  this end is noise: what was sent before is intact, and no later part of it is taken for genuine.
"""

import random

FLIPS_MAX = 8
TAIL_BYTES_MAX = 64


def damaged(data: bytes, key: int) -> bytes:
    """The same with something wrong in it, depending on ``key`` alone; seldom it is the same after all."""
    rng = random.Random(key)
    match rng.randrange(5):
        case 0:  # bits flip
            changed = bytearray(data)
            for _ in range(rng.randint(1, FLIPS_MAX)):
                if changed:
                    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 1:  # the end is missing
            return data[: rng.randrange(len(data) + 1)]
        case 2:  # something is behind it
            return data + rng.randbytes(rng.randint(1, TAIL_BYTES_MAX))
        case 3:  # noise from somewhere on
            begin = rng.randrange(len(data) + 1)
            return data[:begin] + rng.randbytes(len(data) - begin)
        case _:  # another order of sixteen bits each, which the checksum of UDP does not see
            words = [data[at : at + 2] for at in range(0, len(data), 2)]
            one, other = (rng.randrange(len(words)) for _ in range(2)) if words else (0, 0)
            if words:
                words[one], words[other] = words[other], words[one]
            return b"".join(words)


def flipped(data: bytes, key: int) -> bytes:
    """The same with some other bytes in it, as many as before."""
    rng = random.Random(key)
    changed = bytearray(data)
    for _ in range(rng.randint(1, FLIPS_MAX)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)
