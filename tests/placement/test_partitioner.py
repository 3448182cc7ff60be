"""Agents to partitions."""

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.placement import PARTITIONS_MAX, check_partitions, partition_of

POWERS = st.integers(0, 14).map(lambda bits: 1 << bits)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


# Bytes 24 to 55 of the default secret in the XXH3 specification.
SECRET = bytes.fromhex("7240a4a4b7b3671f cb79e64eccc0e578 825ad07dccff7221 b8084674f743248e")
WORD = 2**64 - 1


def xxh3_of_9_to_16_bytes(data: bytes) -> int:
    """XXH3-64 with seed 0 for inputs of 9 to 16 bytes, written down from its specification."""
    secret = [int.from_bytes(SECRET[at : at + 8], "little") for at in range(0, 32, 8)]
    low = int.from_bytes(data[:8], "little") ^ secret[0] ^ secret[1]
    high = int.from_bytes(data[-8:], "little") ^ secret[2] ^ secret[3]
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    folded = (low * high & WORD) ^ (low * high >> 64)
    mixed = len(data) + swapped + high + folded & WORD
    mixed = (mixed ^ mixed >> 37) * 0x165667919E3779F9 & WORD
    return mixed ^ mixed >> 32


@settings(deadline=None)
@given(st.binary(min_size=9, max_size=16))
def test_the_hash_is_xxh3_64_as_specified(data: bytes) -> None:
    assert xxhash.xxh3_64_intdigest(data) == xxh3_of_9_to_16_bytes(data)
    assert xxhash.xxh3_64_intdigest(b"") == 0x2D06800538D394C2


@pytest.mark.parametrize(
    ("agent_type", "key", "hashed", "digest"),
    [
        ("account", "alice", b"\x00\x00\x00\x07accountalice", 0xB3F856C3B3C71D02),
        ("account", "bob", b"\x00\x00\x00\x07accountbob", 0x3F8EAE4829A65585),
        ("a", "bc", b"\x00\x00\x00\x01abc", 0xCCA7BE0E983A00C7),
        ("ab", "c", b"\x00\x00\x00\x02abc", 0xE68A44F28602D7E0),
        ("", "", b"\x00\x00\x00\x00", 0x48B2C92616FC193D),
        ("zähler", "straße 5", b"\x00\x00\x00\x07z\xc3\xa4hlerstra\xc3\x9fe 5", 0xE7D94BC23B8A522E),
    ],
)
def test_the_partition_is_the_top_bits_of_a_known_digest(agent_type: str, key: str, hashed: bytes, digest: int) -> None:
    assert xxhash.xxh3_64_hexdigest(hashed) == f"{digest:016x}"
    for bits in (1, 3, 10, 14):
        assert partition_of(agent_type, key, 1 << bits) == digest >> (64 - bits)
    assert partition_of(agent_type, key, 1) == 0


@settings(deadline=None)
@given(TEXT, TEXT, POWERS)
def test_a_partition_is_in_range_and_halves_when_the_number_halves(agent_type: str, key: str, partitions: int) -> None:
    partition = partition_of(agent_type, key, partitions)
    assert 0 <= partition < partitions
    if partitions > 1:
        assert partition_of(agent_type, key, partitions // 2) == partition // 2


@settings(deadline=None)
@given(TEXT, TEXT, TEXT)
def test_moving_the_border_between_type_and_key_gives_another_agent(first: str, middle: str, last: str) -> None:
    one = partition_of(first + middle, last, PARTITIONS_MAX)
    other = partition_of(first, middle + last, PARTITIONS_MAX)
    lengths = (len((first + middle).encode()), len(first.encode()))
    texts = (first + middle + last).encode()
    twins = [
        xxhash.xxh3_64_intdigest(bytes([0, 0, length >> 8, length & 255]) + texts) * PARTITIONS_MAX >> 64
        for length in lengths
    ]
    assert [one, other] == twins


def test_many_keys_spread_evenly_over_the_partitions() -> None:
    counts = [0] * 16
    for number in range(16_000):
        counts[partition_of("account", f"customer-{number}", 16)] += 1
    # Four standard deviations of a binomial around 1,000.
    assert max(abs(count - 1000) for count in counts) < 4 * (16_000 / 16 * 15 / 16) ** 0.5


@pytest.mark.parametrize("partitions", [-4, 0, 3, 1000, 32_768])
def test_a_number_of_partitions_that_is_no_power_of_two_in_range_is_refused(partitions: int) -> None:
    with pytest.raises(ValueError, match=f"{partitions} partitions.*power of two from 1 to 16384"):
        check_partitions(partitions)
    with pytest.raises(ValueError, match="power of two"):
        partition_of("account", "alice", partitions)


@pytest.mark.parametrize(
    ("agent_type", "key", "blamed"), [("\ud800", "k", "agent type"), ("t", "a\udfff", "agent key")]
)
def test_text_without_a_utf8_form_is_refused_with_its_name(agent_type: str, key: str, blamed: str) -> None:
    with pytest.raises(ValueError, match=f"{blamed} .* no UTF-8 form"):
        partition_of(agent_type, key, 1024)
