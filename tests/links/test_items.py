from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.links.items import has_at_most

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 100) | st.text(), inner, max_size=4),
    max_leaves=30,
)


def items_of(value: Any) -> int:
    """The twin: counts what was decoded."""
    if isinstance(value, list):
        return 1 + sum(map(items_of, value))
    if isinstance(value, dict):
        return 1 + sum(items_of(key) + items_of(item) for key, item in value.items())
    return 1


@given(plain)
def test_the_count_is_that_of_the_decoded_items(value: Any) -> None:
    data = cbor2.dumps(value)
    count = items_of(value)
    assert has_at_most(count, data)
    assert has_at_most(count, memoryview(data))
    assert not has_at_most(count - 1, data)


@given(st.binary(max_size=60), st.integers(1, 30))
def test_what_decodes_at_all_is_never_undercounted(data: bytes, items_max: int) -> None:
    if not has_at_most(items_max, data):
        return
    try:
        value = wire.loads(data)
    except wire.WireError:
        return
    assert items_of(value) <= items_max


def test_a_large_byte_string_is_one_item() -> None:
    assert has_at_most(3, cbor2.dumps([bytes(2**20), "x" * 2**20]))


@pytest.mark.parametrize("item", [b"\x80", b"\x00", b"\x60", b"\xf6", b"\x18\x20"])
def test_many_small_items_are_refused(item: bytes) -> None:
    assert not has_at_most(1000, b"\x9a" + (10**5).to_bytes(4, "big") + item * 10**5)
