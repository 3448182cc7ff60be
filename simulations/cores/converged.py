"""A mesh that has been up for long, without the time that it takes to get there.

To let ten thousand cores learn of each other by messages is a hundred million merges. What they know in the end is the
same on all of them, so it is learned once and copied. This is the one place here that reaches into a core.
"""

import random
from collections.abc import Sequence

from meshnode.identity import NodeId
from meshnode.membership.swim import Swim

ORDERS_MAX = 64
"""Orders of probing that the nodes begin with, each node at a place of its own: an order for each would take longer to
shuffle than to simulate, and they are shuffled anew after their first round anyway."""


def graft(cores: Sequence[Swim], rng: random.Random, now_s: float) -> None:
    """Let fresh cores, which know nobody, know each other as alive, with nothing left to say.

    Args:
        cores: all of a mesh.
        rng: for whom each probes first, and when it compares lists.
        now_s: the present.

    Raises:
        ValueError: one of them knows somebody. Nothing was changed.
    """
    for core in cores:
        if len(core.members) != 1:
            raise ValueError(f"{core.me.name} knows {len(core.members)} members: graft cores that were just made")
    roster = cores[0]._view.roster
    for core in cores[1:]:
        roster.put(core.me, now=now_s)
    members, ids, digests = dict(roster._members), list(roster._ids), list(roster._digests)
    orders = [_shuffled(ids, rng) for _ in range(min(ORDERS_MAX, len(cores)))]
    for number, core in enumerate(cores):
        view = core._view
        held = view.roster
        held._members.update(members)
        held._ids[:] = ids
        held._digests[:] = digests
        held.live = roster.live
        turn = rng.randrange(len(ids))
        order = orders[number % len(orders)]
        view.order._round[:] = [*order[turn:], *order[:turn]]
        view.order._round.remove(core.me.node_id)
        view.gossip.discard(core.me.node_id)
        # It began to compare lists often, as newcomers do, and does it seldom by now.
        core._sync_interval_s = core._config.sync_interval_s
        core._sync_at = now_s + rng.random() * core._sync_interval_s
        core._plan_chores()


def _shuffled(ids: Sequence[NodeId], rng: random.Random) -> list[NodeId]:
    order = list(ids)
    rng.shuffle(order)
    return order
