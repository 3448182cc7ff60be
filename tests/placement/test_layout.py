"""The sets kept beside the rows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.placement.layout import Layout, members_of, narrowed, pick

SETS = st.sets(st.integers(0, 40))


def bits(partitions: set[int]) -> int:
    return sum(1 << partition for partition in partitions)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
    st.lists(st.lists(st.integers(0, 5), max_size=3, unique=True), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 5), st.integers(0, 5)), max_size=20),
)
def test_every_set_says_what_the_rows_say_after_any_changes(
    zones: list[int], drawn: list[list[int]], steps: list[tuple[int, int, int]]
) -> None:
    rows = [[node for node in row if node < len(zones)] for row in drawn]
    layout = Layout(rows, [row[0] if row else None for row in rows], zones)
    twin = [list(row) for row in rows]
    for at, one, other in steps:
        partition, giver, taker = at % len(rows), one % len(zones), other % len(zones)
        row = twin[partition]
        if giver in row and taker not in row:
            layout.replace(partition, giver=giver, taker=taker)
            row.remove(giver)
            row.append(taker)
        elif giver in row:
            layout.drop(partition, giver)
            row.remove(giver)
        else:
            layout.add(partition, giver)
            row.append(giver)
    assert layout.rows == twin
    everything = range(len(rows))
    for node in range(len(zones)):
        held = {partition for partition in everything if node in twin[partition]}
        origin = {partition for partition in everything if node in rows[partition]}
        assert layout.load[node] == len(held)
        assert layout.held[node] == bits(held)
        assert layout.origin[node] == bits(origin)
        assert layout.fresh[node] == bits(held - origin)
        assert layout.led[node] == bits({at for at in everything if rows[at] and rows[at][0] == node})
    for zone in range(max(zones) + 1):
        counts = [sum(zones[node] == zone for node in row) for row in twin]
        assert layout.covered[zone] == bits({at for at in everything if counts[at] >= 1})
        assert layout.doubled[zone] == bits({at for at in everything if counts[at] >= 2})


@settings(deadline=None)
@given(SETS.filter(bool), st.lists(SETS, max_size=3), st.integers(0, 45))
def test_picking_from_numbers_is_picking_from_sets(candidates: set[int], wishes: list[set[int]], start: int) -> None:
    left = candidates
    for wish in wishes:
        left = left & wish or left
    assert narrowed(bits(candidates), map(bits, wishes)) == bits(left)
    assert list(members_of(bits(left))) == sorted(left)
    assert pick(bits(left), start=start) == min(left, key=lambda partition: (partition < start, partition))
