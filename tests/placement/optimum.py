"""The textbook way to the best assignment: a minimum-cost flow by Bellman and Ford, slow and short."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshnode.identity import NodeId

OUTSIDE = 10**6
"""What a load outside its bounds costs, so that no saving elsewhere makes up for it."""


@dataclass(slots=True)
class _Edge:
    head: int
    room: int
    cost: int
    back: int


class _Flow:
    def __init__(self, vertices: int) -> None:
        self.edges: list[list[_Edge]] = [[] for _ in range(vertices)]

    def join(self, tail: int, head: int, *, room: int, cost: int) -> None:
        self.edges[tail].append(_Edge(head, room, cost, len(self.edges[head])))
        self.edges[head].append(_Edge(tail, 0, -cost, len(self.edges[tail]) - 1))

    def least_cost(self, source: int, sink: int) -> int:
        """The cost of the cheapest of the greatest flows."""
        total = 0
        while True:
            distance = {source: 0}
            reached_by: dict[int, tuple[int, _Edge]] = {}
            pending = [source]
            while pending:
                tail = pending.pop(0)
                for edge in self.edges[tail]:
                    far = distance[tail] + edge.cost
                    if edge.room and far < distance.get(edge.head, far + 1):
                        distance[edge.head] = far
                        reached_by[edge.head] = tail, edge
                        if edge.head not in pending:
                            pending.append(edge.head)
            if sink not in distance:
                return total
            total += distance[sink]
            vertex = sink
            while vertex != source:
                vertex, edge = reached_by[vertex]
                edge.room -= 1
                self.edges[edge.head][edge.back].room += 1


def least_cost(
    costs: Sequence[Mapping[NodeId, int]], *, each: int, low: Mapping[NodeId, int], high: Mapping[NodeId, int]
) -> tuple[int, int]:
    """The cheapest way to put each partition on ``each`` of the nodes that its costs name.

    Returns:
        How far loads must be outside their bounds in all, and the cost when they are outside by no more.
    """
    nodes = sorted(low)
    first_node = 1 + len(costs)
    sink = first_node + len(nodes)
    flow = _Flow(sink + 1)
    for partition, by_node in enumerate(costs):
        flow.join(0, 1 + partition, room=each, cost=0)
        for node, cost in by_node.items():
            flow.join(1 + partition, first_node + nodes.index(node), room=1, cost=cost)
    for index, node in enumerate(nodes):
        flow.join(first_node + index, sink, room=low[node], cost=-OUTSIDE)
        flow.join(first_node + index, sink, room=high[node] - low[node], cost=0)
        flow.join(first_node + index, sink, room=each * len(costs), cost=OUTSIDE)
    total = flow.least_cost(0, sink) + OUTSIDE * sum(low.values())
    outside = (total + OUTSIDE // 2) // OUTSIDE
    return outside, total - outside * OUTSIDE
