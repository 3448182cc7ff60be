"""Mistakes in the table of who holds what."""

from tests.mutants.mutant import Edit, Mutant

_WORLDS = ("placement",)


def _placement(name: str, wrong: str, *edits: Edit, invariant: str = "placement-*", easy: bool = True) -> Mutant:
    return Mutant(
        name=f"placement-{name}",
        wrong=wrong,
        edits=edits,
        worlds=_WORLDS,
        invariants=(invariant,),
        is_easy=easy,
    )


PLACEMENT = (
    _placement(
        "starts-afresh",
        "The next table does not look at the present one: far more moves than must.",
        Edit(
            "meshnode/placement/table.py",
            "layout = _layout(previous, ring, partitions)",
            "layout = _layout(None, ring, partitions)",
        ),
    ),
    _placement(
        "moves-to-the-ring",
        "Nodes give up replicas that they have room for, because the ring would have them elsewhere.",
        Edit(
            "meshnode/placement/replicas.py",
            "    _fill(layout, ring, bounds, width)\n    if all(",
            "    for partition, row in enumerate(layout.rows):\n"
            "        for node in [node for node in row if node not in ring.first(PartitionId(partition), width)]:\n"
            "            layout.drop(partition, node)\n"
            "    _fill(layout, ring, bounds, width)\n    if all(",
        ),
    ),
    _placement(
        "primaries-chosen-anew",
        "Primaries hand over although they need not.",
        Edit(
            "meshnode/placement/primaries.py",
            "if prior is not None and prior in row:",
            "if prior is not None and prior == row[-1]:",
        ),
    ),
    _placement(
        "depends-on-the-order-of-members",
        "Two nodes that learned of the members in another order make other tables.",
        Edit(
            "meshnode/placement/ring.py",
            "self.nodes: tuple[NodeId, ...] = tuple(sorted(members))",
            "self.nodes: tuple[NodeId, ...] = tuple(members)",
        ),
    ),
    _placement(
        "evened-with-what-is-at-rest",
        "Loads are evened with replicas that are at rest, though others are on the move anyway.",
        Edit("meshnode/placement/replicas.py", "    _level(layout, bounds, fresh_only=True)\n", ""),
        easy=False,
    ),
    _placement(
        "orphans-led-by-newcomers",
        "A partition that lost its primary may be led by a replica that has yet to get its data.",
        Edit(
            "meshnode/placement/primaries.py",
            "survivors = [node for node in row if layout.origin[node] >> partition & 1]",
            "survivors = [node for node in row if not layout.origin[node] >> partition & 1]",
        ),
        easy=False,
    ),
    _placement(
        "led-by-anyone",
        "A partition that lost its primary may be passed on to a replica that has yet to get its data.",
        Edit(
            "meshnode/placement/primaries.py",
            "return _Price.NOTHING if node in heirs else None",
            "return _Price.NOTHING",
        ),
        easy=False,
    ),
    _placement(
        "handoffs-not-taken-back",
        "A handoff that a later one makes superfluous is made all the same.",
        Edit(
            "meshnode/placement/primaries.py",
            "        cheapen(self.load, bounds, begin=self._cheaper, givers=givers, pass_on=self._pass_on)\n",
            "        assert givers\n",
        ),
        easy=False,
    ),
    _placement(
        "moves-as-hasty-as-before",
        "A move that stalled is tried again with the same patience as before, for ever.",
        Edit(
            "meshnode/metadata/allocator.py",
            "setbacks = self._setbacks.get(partition, 0) if is_move else 0",
            "setbacks = 0",
        ),
        invariant="liveness",
        easy=False,
    ),
    _placement(
        "weights-ignored-in-takeovers",
        "Who takes over is chosen as if all nodes were alike.",
        Edit(
            "meshnode/placement/takeover.py",
            "return (2 * load + 1) / self._weights[node]",
            "return float(2 * load + 1) if self._weights[node] else 0.0",
        ),
        easy=False,
    ),
    _placement(
        "shares-above-all-there-is",
        "The share of a heavy node may be more than all partitions, so that the others get too little.",
        Edit(
            "meshnode/placement/share.py",
            "shares[node] = min(Fraction(partitions), slots * weights[node] / rest)",
            "shares[node] = slots * weights[node] / rest",
        ),
        easy=False,
    ),
)
