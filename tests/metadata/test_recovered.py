"""The Raft group was made anew, from a log or a snapshot: what the metadata make of having gone back in time."""

import pytest

from meshnode import wire
from meshnode.coordination import bounds
from meshnode.coordination.commands import Step
from meshnode.coordination.questions import AwaitChanges, Changes, Entries, ReadKeys
from meshnode.identity import Address, Boot, MeshId, NodeId
from meshnode.metadata.commands import ChangeRows, Found, Recover, Register, RowChange
from meshnode.metadata.commands import Step as RowStep
from meshnode.metadata.nodes import NodeRecord
from meshnode.metadata.rows import Phase
from meshnode.metadata.state import GENERATION_SHIFT, Metadata, Outcome
from tests.coordination.log import Log
from tests.metadata.scene import changes, formed

A, B = NodeId(1), NodeId(2)


def applied(metadata: Metadata, index: int, command: object) -> object:
    return metadata.apply(index, wire.encode(command))


@pytest.fixture
def metadata() -> Metadata:
    """Of two nodes, at index 3."""
    metadata = Metadata()
    applied(metadata, 1, Found(MeshId(bytes(16)), 4, 3))
    for index, node_id in ((2, A), (3, B)):
        applied(metadata, index, Register(node_id, Boot(1), f"n{node_id}", Address("127.0.0.1", 7946)))
    return metadata


def test_a_generation_may_be_left_out_but_none_comes_twice(metadata: Metadata) -> None:
    assert applied(metadata, 4, Recover(5, ())) is Outcome.DONE
    for generation in (5, 4, 0):
        assert applied(metadata, 5, Recover(generation, (A,))) is Outcome.STALE
    assert metadata.generation == 5
    assert not metadata.nodes[A].is_leaving


def test_the_version_rises_although_the_index_falls(metadata: Metadata) -> None:
    applied(metadata, 1000, Register(A, Boot(2), "n1", Address("127.0.0.1", 7946)))
    before = metadata.version
    applied(metadata, 10, Recover(1, ()))
    assert metadata.version == (1 << GENERATION_SHIFT) + 10 > before


def test_every_node_is_told_of_since_it_may_have_been_registered_later() -> None:
    told: list[tuple[NodeId, NodeRecord | None]] = []
    metadata = Metadata(on_node=lambda node_id, record: told.append((node_id, record)))
    for index, node_id in ((2, A), (3, B)):
        applied(metadata, index, Register(node_id, Boot(1), f"n{node_id}", Address("127.0.0.1", 7946)))
    image = b"".join(metadata.freeze()())
    told.clear()
    applied(metadata, 4, Recover(1, (B,)))
    assert told == [(A, metadata.nodes[A]), (B, metadata.nodes[B])]
    assert [record.is_leaving for record in metadata.nodes.values()] == [False, True]
    told.clear()
    metadata.restore([image])()  # another node's, of another generation
    assert [node_id for node_id, _ in told] == [A, B]


# ---- partitions


def test_all_rows_begin_anew_though_their_primaries_live() -> None:
    """Later rows may be lost, in which those primaries were deposed: nobody would serve these."""
    mesh = formed(3)
    before = {partition: row.primary for partition, row in mesh.metadata.rows.items()}
    mesh.apply(Recover(2, ()))
    mesh.run(3.0)
    assert {change.partition for change in changes(mesh)} >= before.keys()
    assert all(row.epoch > 2 << GENERATION_SHIFT for row in mesh.metadata.rows.values())
    assert all(row.phase is Phase.ACTIVE for row in mesh.metadata.rows.values())
    assert set(mesh.led()) == set(mesh.nodes)


def test_a_single_node_takes_its_partitions_up_in_the_new_generation() -> None:
    mesh = formed(1)
    (node_id,) = mesh.nodes
    mesh.apply(Recover(1, ()))
    mesh.run(1.0)
    assert all(row.primary == node_id and row.phase is Phase.ACTIVE for row in mesh.metadata.rows.values())
    assert {row.epoch for row in mesh.metadata.rows.values()} == {(1 << GENERATION_SHIFT) + 1}


def test_a_change_that_was_meant_for_a_row_before_finds_another_epoch() -> None:
    mesh = formed(3)
    partition, row = next(iter(mesh.metadata.rows.items()))
    mesh.apply(Recover(1, ()))
    mesh.run(1.0)
    late = RowChange(partition, RowStep.BEGIN, row.epoch, row.phase, row.primary, row.boot, row.replicas)
    assert mesh.apply(ChangeRows((late,))) is Outcome.STALE


# ---- locks and keys


def test_all_claims_and_sessions_last_their_ttl_anew() -> None:
    """What renewed them may be lost, and their holders count on it."""
    log = Log()
    session = log.open()
    claim = log.acquire(session, "l", ttl_ms=10_000)
    log.tick(9_000)
    log.state.recovered(log.stamp)
    log.tick(9_000)
    assert log.token(session, claim)
    log.tick(1_000 + bounds.TICK_MS_MAX)
    assert log.token(session, claim) is None
    assert session in {one.session for one in log.state.sessions}, "it lasts for longer"


def test_who_watches_keys_is_told_to_list_them_anew_and_can_go_on_from_there() -> None:
    log = Log()
    session = log.open()
    log.transact(session, Step.put("k", "old"))
    seen = log.transact(session, Step.put("k", "lost later")).revision
    log.stamp = 1 << GENERATION_SHIFT
    log.state.recovered(log.stamp)
    told = AwaitChanges("", seen).look(log.state)
    assert told == Changes((), seen, log.stamp)
    listed = ReadKeys("").look(log.state)
    assert isinstance(listed, Entries)
    assert AwaitChanges("", listed.revision).look(log.state) is None
    put = log.transact(session, Step.put("k", "new")).revision
    news = AwaitChanges("", listed.revision).look(log.state)
    assert isinstance(news, Changes)
    assert [revision.revision for revision in news.revisions] == [put]
    assert put > seen


def test_tokens_rise_over_generations_though_the_index_falls(metadata: Metadata) -> None:
    before = metadata.stamp(10**9)
    applied(metadata, 7, Recover(1, ()))
    assert metadata.stamp(8) > before
