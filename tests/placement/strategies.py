"""Members and histories that hypothesis draws."""

from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from meshnode.identity import NODE_ID_MAX, NodeId, PartitionId
from meshnode.placement import MemberSpec, Table

NODE_IDS = st.integers(1, NODE_ID_MAX).map(NodeId)
WEIGHTS = st.sampled_from([0.1, 0.5, 1.0, 1.0, 1.0, 2.0, 10.0])
ZONES = st.sampled_from(["", "a", "b", "c"])


def members(
    *, weights: st.SearchStrategy[float] = WEIGHTS, zones: st.SearchStrategy[str] = ZONES, most: int = 8
) -> st.SearchStrategy[dict[NodeId, MemberSpec]]:
    """One to ``most`` members."""
    specs = st.builds(MemberSpec, weight=weights, zone=zones)
    return st.dictionaries(NODE_IDS, specs, min_size=1, max_size=most)


EQUALS = members(weights=st.just(1.0), zones=st.just(""))


@st.composite
def histories(
    draw: st.DrawFn, one: st.SearchStrategy[dict[NodeId, MemberSpec]], *, longest: int = 4
) -> list[dict[NodeId, MemberSpec]]:
    """Memberships one after the other: each keeps some of the last one's members and takes in some new ones."""
    history = [draw(one)]
    for _ in range(draw(st.integers(1, longest - 1))):
        last = history[-1]
        kept = draw(st.sets(st.sampled_from(sorted(last))))
        fresh = draw(one) if not kept or draw(st.booleans()) else {}
        fresh = dict(list(fresh.items())[: max(1, 9 - len(kept))])
        history.append({node: last[node] for node in sorted(kept)} | fresh)
    return history


def equal_members(nodes: Iterable[int], *, zone: str = "") -> dict[NodeId, MemberSpec]:
    """Members of equal weight; their ids are far apart, as drawn ones are."""
    return {NodeId(node * 0x1234_5678_9ABC_DEF % NODE_ID_MAX): MemberSpec(zone=zone) for node in nodes}


def by_partition(table: Table) -> Mapping[PartitionId, tuple[NodeId, ...]]:
    """A table as the committed rows are kept."""
    return {PartitionId(partition): row for partition, row in enumerate(table.rows)}
