"""Whatever happens to the nodes: every plan keeps to the rules, the mesh comes to rest, and rests in order."""

import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from meshnode.identity import NodeId
from meshnode.metadata.allocator import STALL_MAX_S
from meshnode.metadata.config import AllocatorConfig
from meshnode.metadata.rows import Phase, Row
from tests.metadata.mesh import Mesh

CONFIG = AllocatorConfig(settle_s=1.0, replacement_delay_s=8.0, stuck_after_s=2.0, stall_s=2.0, moves_max=5)

REST_S = STALL_MAX_S + 15.0
"""Longer than any of the allocator's patience: what proposes nothing for so long never will."""

NODES_MAX = 8

Event = tuple[str, int, float]
"""What happens, to which node, and how long until the next event."""

EVENTS = st.tuples(
    st.sampled_from(["join", "fail", "restart", "hang", "recover", "balk", "leave", "elect", "forget", "nothing"]),
    st.integers(0, NODES_MAX - 1),
    st.sampled_from([0.0, 0.25, 0.5, 1.5, 3.0, 9.0]),
)


def happen(mesh: Mesh, event: Event) -> None:
    """An event, where it makes sense."""
    kind, number, gap_s = event
    if not mesh.nodes:
        return  # the last one left
    node_id = sorted(mesh.nodes)[number % len(mesh.nodes)]
    process = mesh.nodes[node_id]
    is_leaving = mesh.metadata.nodes[node_id].is_leaving
    simple: dict[str, Callable[[], object]] = {"elect": mesh.elect, "forget": mesh.forget, "nothing": lambda: None}
    if kind in simple:
        simple[kind]()
    elif kind == "join" and len(mesh.nodes) < NODES_MAX:
        used = mesh.metadata.nodes.keys()
        weight, zone = 1 + number % 2, "ab"[number % 3 // 2]
        mesh.join(
            next(n for n in range(1, 100) if n * 0x1234_5678_9ABC_DEF % (2**63 - 1) not in used),
            weight=weight,
            zone=zone,
        )
    elif kind == "fail" and process.is_up:
        mesh.fail(node_id, left=number % 2 == 0)
    elif kind == "restart":
        mesh.restart(node_id)
    elif kind == "hang" and process.works:
        mesh.hang(node_id)
    elif kind == "recover" and not process.works:
        mesh.recover(node_id)
    elif kind == "balk":
        mesh.balk(node_id, 7.0)
    elif kind == "leave" and not is_leaving and sum(not node.is_leaving for node in mesh.metadata.nodes.values()) > 1:
        mesh.leave(node_id)
    mesh.run(gap_s)


def come_to_rest(mesh: Mesh) -> None:
    """Nothing is lost any more. Let time pass until nothing was proposed for long."""
    mesh.is_lost = lambda: False
    for _ in range(20):
        proposed = len(mesh.proposals)
        mesh.run(REST_S)
        if len(mesh.proposals) == proposed:
            return
    raise AssertionError(f"no rest: {mesh.proposals[-5:]}")


def can_be_served(mesh: Mesh, row: Row) -> bool:
    """Whether anything could bring the row to life."""
    if row.base:
        return mesh.works(row.base)
    staying = [node_id for node_id in mesh.nodes if not mesh.metadata.nodes[node_id].is_leaving]
    return mesh.works(row.replicas) or any(mesh.nodes[node_id].works for node_id in staying)


def who_counts(mesh: Mesh) -> set[NodeId]:
    """Those that should hold the replicas once all patience is over."""
    staying = {node_id for node_id in mesh.nodes if not mesh.metadata.nodes[node_id].is_leaving}
    working = {node_id for node_id in staying if mesh.nodes[node_id].works}
    is_anyone_leaving = any(process.works for node_id, process in mesh.nodes.items() if node_id not in staying)
    return working if len(working) >= mesh.replication or is_anyone_leaving else staying


@given(
    st.integers(1, 5),
    st.lists(EVENTS, max_size=12),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 0.3]),
    st.randoms(use_true_random=False),
)
def test_after_any_events_the_mesh_rests_in_order(
    nodes: int,
    events: list[Event],
    takeover_s: float,
    detection_s: float,
    loss: float,
    rng: random.Random,
) -> None:
    mesh = Mesh(config=CONFIG, takeover_s=takeover_s, detection_s=detection_s, is_lost=lambda: rng.random() < loss)
    mesh.join(*range(1, nodes + 1))
    for event in events:
        happen(mesh, event)
    come_to_rest(mesh)

    rows = mesh.metadata.rows
    served = [row for row in rows.values() if can_be_served(mesh, row)]
    for row in served:
        assert row.phase is Phase.ACTIVE
        assert mesh.nodes[row.primary].works
        assert mesh.nodes[row.primary].boot == row.boot
    counting = who_counts(mesh)
    if all(mesh.nodes[node_id].works for node_id in counting) and counting:
        assert len(rows) == mesh.partitions
        for row in served:
            assert set(row.replicas) <= counting
            assert len(row.replicas) == min(mesh.replication, len(counting))
        if len(served) == mesh.partitions:
            assert mesh.target(*counting) == mesh.table()
            gone = mesh.forget()
            assert gone == [] or set(mesh.nodes) | set(gone) > counting
            assert not any(record.is_leaving for record in mesh.metadata.nodes.values())


@given(st.lists(EVENTS, max_size=12), st.randoms(use_true_random=False))
def test_the_same_events_lead_to_the_same_proposals(events: list[Event], rng: random.Random) -> None:
    proposals = []
    seed = rng.getrandbits(32)
    for _ in range(2):
        chance = random.Random(seed)
        mesh = Mesh(config=CONFIG, is_lost=lambda chance=chance: chance.random() < 0.2)  # type: ignore[misc]
        mesh.join(1, 2, 3)
        for event in events:
            happen(mesh, event)
        proposals.append(mesh.proposals)
    assert proposals[0] == proposals[1]
