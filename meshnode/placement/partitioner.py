"""Which partition an agent belongs to: the one mapping that every node and every client must agree on, for ever."""

import xxhash

from meshnode.identity import PartitionId

PARTITIONS_DEFAULT = 1024
PARTITIONS_MAX = 16_384
"""A row of the partition table is in memory and in the metadata snapshot of every node, so their number has a limit."""

_HASH_BITS = 64
_LENGTH_BYTES = 4


def check_partitions(partitions: int) -> None:
    """Accept a power of two from 1 to 16,384.

    Raises:
        ValueError: it is anything else.
    """
    if not 1 <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise ValueError(
            f"{partitions} partitions: the number must be a power of two from 1 to {PARTITIONS_MAX}, "
            f"such as {PARTITIONS_DEFAULT}"
        )


def partition_of(agent_type: str, key: str, partitions: int) -> PartitionId:
    """The partition of an agent: the top bits of XXH3-64 (seed 0) over its type and key.

    What is hashed::

        | length of type, 4 bytes big-endian | type, UTF-8 | key, UTF-8 |

    The length tells ("a", "bc") from ("ab", "c"). Text is taken as it is: two spellings of one character in Unicode
    are two keys.

    Args:
        agent_type: the name under which the agent's definition is registered.
        key: which of the agents of that type.
        partitions: how many partitions the mesh was founded with.

    Raises:
        ValueError: the text has no UTF-8 form (a lone surrogate), or ``partitions`` is not a power of two in range.
    """
    check_partitions(partitions)
    type_bytes = _encoded(agent_type, what="agent type")
    length = len(type_bytes).to_bytes(_LENGTH_BYTES, "big")
    digest = xxhash.xxh3_64_intdigest(length + type_bytes + _encoded(key, what="agent key"))
    return PartitionId(digest >> (_HASH_BITS + 1 - partitions.bit_length()))


def _encoded(text: str, *, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} {text!r} has no UTF-8 form (position {error.start}): use text without lone surrogates"
        ) from error
