"""Whether a table is as even and as well spread as its rules promise (`meshnode.placement.next_table`, rules 1 to 6).

`placement.check_table` asks whether everyone makes the same table and moves no more than must; this asks whether it is
a good one. Nothing here is taken from the algorithm.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor

from meshnode.identity import NodeId
from meshnode.placement import MemberSpec, Table, next_table
from simulations.checkers.violation import Violation

Members = Mapping[NodeId, MemberSpec]


def check_quality(
    previous: Table | None, members: Members, table: Table, *, replication: int, virtual_s: float
) -> None:
    """Judge the table that these members should have. It takes partitions × replicas, and nodes × nodes.

    Args:
        previous: the committed table; None at founding.
        replication: how many replicas a partition should have.

    Raises:
        Violation: placement-row-sound, placement-balance, placement-zones, placement-survivor-leads,
            placement-primaries or placement-stays.
    """
    judge = _Judge(previous, members, table, replication, virtual_s)
    judge.check_rows()
    judge.check_loads()
    judge.check_zones()
    judge.check_survivors()
    judge.check_primaries()
    judge.check_stays(next_table(table, members, partitions=len(table.rows), replication=replication))


class _Judge:
    """One table, and what it was made of."""

    def __init__(
        self, previous: Table | None, members: Members, table: Table, replication: int, virtual_s: float
    ) -> None:
        self._old = previous.rows if previous is not None else ((),) * len(table.rows)
        self._members = members
        self._table = table
        self._width = min(replication, len(members))
        self._virtual_s = virtual_s
        self._shares = _fair_shares(members, partitions=len(table.rows), width=self._width)

    def check_rows(self) -> None:
        """Rule 1: as many replicas as there can be, all of them members."""
        for partition, row in enumerate(self._table.rows):
            if len(row) != self._width or len(set(row)) != len(row) or not self._members.keys() >= set(row):
                raise self._violation(
                    "placement-row-sound", f"partition {partition} is on {row}, of {len(self._members)} members", *row
                )

    def check_loads(self) -> None:
        """Rule 2: each node holds its fair share, rounded down or up."""
        held = self._table.replicas()
        for node, share in self._shares.items():
            if not floor(share) <= held[node] <= ceil(share):
                raise self._violation(
                    "placement-balance", f"{node} holds {held[node]} replicas; its share is {share}", node
                )

    def check_zones(self) -> None:
        """Rule 4: no table with such loads covers more partitions in more zones.

        A zone covers all partitions at best, or as many as it has replicas. Its members have its loads rounded down,
        and what is left to round up goes first where a zone has fewer replicas than there are partitions.
        """
        count = len(self._table.rows)
        least: dict[str, int] = {}
        most: dict[str, int] = {}
        for node, spec in self._members.items():
            least[spec.zone] = least.get(spec.zone, 0) + floor(self._shares[node])
            most[spec.zone] = most.get(spec.zone, 0) + ceil(self._shares[node])
        to_round_up = count * self._width - sum(least.values())
        useful = sum(max(0, min(count, most[zone]) - least[zone]) for zone in least)
        possible = sum(min(count, load) for load in least.values()) + min(to_round_up, useful)
        covered = sum(len({self._members[node].zone for node in row}) for row in self._table.rows)
        if covered != possible:
            raise self._violation(
                "placement-zones", f"all rows together are in {covered} zones, and {possible} is possible"
            )

    def check_survivors(self) -> None:
        """Rule 5: who led stays in the lead or hands over; where it is gone, one that has the data leads."""
        for partition, (old, new) in enumerate(zip(self._old, self._table.rows, strict=True)):
            if old and old[0] not in new and not set(old).isdisjoint(new) and new[0] not in old:
                message = f"partition {partition} was on {old} and is led by {new[0]} of {new}, which has no data"
                raise self._violation("placement-survivor-leads", message, new[0])

    def check_primaries(self) -> None:
        """Rule 3: no chain of handovers among the replicas brings what each leads nearer to its fair share."""
        shares = _fair_shares(self._members, partitions=len(self._table.rows), width=1)
        led = self._table.primaries()
        passes = self._passes()
        for giver in self._members:
            if led[giver] <= floor(shares[giver]):
                continue  # it has none to spare
            above = led[giver] > ceil(shares[giver])
            for taker in _reached(giver, passes):
                if led[taker] < floor(shares[taker]) or (above and led[taker] < ceil(shares[taker])):
                    message = (
                        f"{giver} leads {led[giver]} of a fair {shares[giver]} and could pass one on, by way of others"
                        f" perhaps, to {taker}, which leads {led[taker]} of {shares[taker]}"
                    )
                    raise self._violation("placement-primaries", message, giver, taker)

    def check_stays(self, again: Table) -> None:
        """Rule 6: the same members make the same table of it; only primaries may still change, for an even load.

        Args:
            again: what they make of it.
        """
        shares = _fair_shares(self._members, partitions=len(self._table.rows), width=1)
        led = self._table.primaries()
        is_even = all(floor(share) <= led[node] <= ceil(share) for node, share in shares.items())
        for partition, (row, after) in enumerate(zip(self._table.rows, again.rows, strict=True)):
            if set(row) != set(after) or (is_even and row != after):
                raise self._violation(
                    "placement-stays", f"partition {partition} is on {row}, and on {after} by the same rules"
                )

    def _passes(self) -> dict[NodeId, set[NodeId]]:
        """To whom each node could hand over a partition that it leads."""
        passes: dict[NodeId, set[NodeId]] = {node: set() for node in self._members}
        for old, new in zip(self._old, self._table.rows, strict=True):
            lost_primary = not old or old[0] not in new
            survivors = {node for node in new if node in old} if lost_primary else set()
            passes[new[0]] |= (survivors or set(new)) - {new[0]}
        return passes

    def _violation(self, invariant: str, message: str, *nodes: NodeId) -> Violation:
        return Violation(invariant, virtual_s=self._virtual_s, message=message, nodes=nodes)


def _fair_shares(members: Members, *, partitions: int, width: int) -> dict[NodeId, Fraction]:
    """What each is to have of ``width`` in every partition: in proportion to its weight, and in none more than once."""
    weights = {node: Fraction(str(spec.weight)) for node, spec in members.items()}
    full: set[NodeId] = set()
    while True:
        left = partitions * (width - len(full))
        total = sum(weight for node, weight in weights.items() if node not in full)
        shares = {
            node: Fraction(partitions) if node in full else left * weight / total for node, weight in weights.items()
        }
        over = {node for node, share in shares.items() if share > partitions}
        if not over:
            return shares
        full |= over


def _reached(giver: NodeId, passes: Mapping[NodeId, set[NodeId]]) -> list[NodeId]:
    """All to whom something can be passed from the giver, directly or through others."""
    reached = {giver: None}
    todo = [giver]
    while todo:
        for node in sorted(passes[todo.pop()]):
            if node not in reached:
                reached[node] = None
                todo.append(node)
    return list(reached)[1:]
