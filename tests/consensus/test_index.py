"""What is kept in memory of a log on disk."""

from hypothesis import given
from hypothesis import strategies as st

from consensus.index import Tail, Terms
from consensus.messages import Entry

BATCH_BYTES = 2 * 300 + 3 * Tail.ENTRY_BYTES
"""What a batch of three entries of 100 bytes takes."""


def batch(first: int, term: int = 1, *, count: int = 3) -> list[Entry]:
    return [Entry(term, index, data=bytes(100)) for index in range(first, first + count)]


def tail_of(*firsts: int, bytes_max: int) -> Tail:
    tail = Tail(bytes_max)
    for first in firsts:
        tail.append(batch(first), 300)
    return tail


def test_a_tail_that_is_too_large_lets_go_its_older_half() -> None:
    tail = tail_of(1, 4, 7, 10, bytes_max=4 * BATCH_BYTES)
    sizes = [tail.is_large]
    tail.append(batch(13), 300)
    sizes.append(tail.is_large)
    assert sizes == [False, True]
    tail.shrink(before=16)
    assert (tail.first, len(tail), tail.is_large) == (10, 6, False)
    assert tail.slice(10, 16) == [*batch(10), *batch(13)]


def test_a_tail_keeps_what_is_not_written_yet_however_large_it_is() -> None:
    tail = tail_of(1, 4, 7, bytes_max=10)
    tail.shrink(before=4)
    assert (tail.first, len(tail), tail.is_large) == (4, 6, True)
    tail.shrink(before=10)
    assert (tail.first, len(tail), tail.is_large) == (10, 0, False)
    tail.append(batch(10), 300)
    assert tail.slice(10, 13) == batch(10)


def test_a_tail_counts_no_longer_what_was_replaced() -> None:
    tail = tail_of(1, 4, 7, bytes_max=3 * BATCH_BYTES)
    for _ in range(9):
        tail.append(batch(6, 2), 300)  # which cuts into the second batch
    assert tail.slice(1, 9) == [*batch(1), *batch(4, count=2), *batch(6, 2)]
    assert not tail.is_large
    tail.append(batch(20), 300)
    assert (tail.first, len(tail)) == (20, 3)
    tail.shrink(before=23)
    assert len(tail) == 3


@given(st.lists(st.tuples(st.integers(0, 4), st.lists(st.booleans(), min_size=1, max_size=4)), max_size=8))
def test_terms_read_like_a_list(batches: list[tuple[int, list[bool]]]) -> None:
    terms, twin, term = Terms(), list[int](), 1
    for back, steps in batches:
        first = max(len(twin) - back, 0) + 1
        found = []
        for place, step in enumerate(steps):
            term += step or (not place and first <= len(twin))
            found.append(Entry(term, first + place))
        terms.extend(found)
        twin[first - 1 :] = [entry.term for entry in found]
        assert [terms.term(index) for index in range(1, len(twin) + 2)] == [*twin, None]
        assert (terms.last, terms.last_term) == (len(twin), twin[-1])
