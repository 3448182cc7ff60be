"""The replicated state machine: what each command does, and what it can't."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.errors import InvalidArgument, NotFound
from meshnode.identity import NODE_ID_MAX, Address, Boot, Epoch, MeshId, NodeId, PartitionId, node_id_text
from meshnode.metadata.commands import ChangeRows, Command, Forget, Found, Leaving, Register, RowChange, Step
from meshnode.metadata.nodes import NodeRecord, resolve
from meshnode.metadata.rows import Phase, Row
from meshnode.metadata.state import GENERATION_SHIFT, Metadata, Outcome
from tests.metadata.twin import EMPTY, State, after

MESH = MeshId(bytes(range(16)))
ADDRESS = Address("127.0.0.1", 7946)
A, B, C, D = map(NodeId, (1, 2, 3, 4))


class Log:
    """A log and the metadata that applies it."""

    def __init__(self, metadata: Metadata | None = None) -> None:
        self.metadata = metadata or Metadata()
        self.commands: list[Command] = []

    def append(self, command: Command) -> Outcome:
        self.commands.append(command)
        outcome = self.metadata.apply(len(self.commands), wire.encode(command))
        assert isinstance(outcome, Outcome)
        return outcome

    def change(self, change: RowChange) -> Outcome:
        return self.append(ChangeRows((change,)))

    def row(self, partition: int) -> Row:
        return self.metadata.rows[PartitionId(partition)]


def register(node_id: NodeId, boot: int = 1, *, weight: int = 1) -> Register:
    return Register(node_id, Boot(boot), f"node-{node_id}", ADDRESS, weight, "zone")


def begin(
    partition: int,
    *replicas: NodeId,
    epoch: int = 0,
    phase: Phase = Phase.ACTIVE,
    boot: int = 1,
    primary: NodeId | None = None,
) -> RowChange:
    return RowChange(
        PartitionId(partition),
        Step.BEGIN,
        Epoch(epoch),
        phase,
        replicas[0] if primary is None else primary,
        Boot(boot),
        replicas,
        "because",
    )


def activate(partition: int, *, epoch: int, phase: Phase = Phase.SEALING) -> RowChange:
    return RowChange(PartitionId(partition), Step.ACTIVATE, Epoch(epoch), phase)


@pytest.fixture
def log() -> Log:
    """A mesh of four partitions and three nodes."""
    log = Log()
    log.append(Found(MESH, 4, 3))
    for node_id in (A, B, C):
        log.append(register(node_id))
    return log


# ---- founding


def test_a_mesh_is_founded_once() -> None:
    log = Log()
    assert log.append(Found(MESH, 4, 3)) is Outcome.DONE
    founding = log.metadata.founding
    assert founding is not None
    assert (founding.mesh_id, founding.partitions, founding.replication) == (MESH, 4, 3)
    assert log.append(Found(MeshId(bytes(16)), 8, 1)) is Outcome.STALE
    assert log.metadata.founding is founding


@pytest.mark.parametrize(("partitions", "replication"), [(0, 3), (-4, 3), (3, 3), (2**15, 3), (4, 0), (4, -1)])
def test_a_mesh_that_no_table_fits_is_not_founded(partitions: int, replication: int) -> None:
    log = Log()
    assert log.append(Found(MESH, partitions, replication)) is Outcome.INVALID
    assert log.metadata.founding is None
    assert log.append(Found(MESH, 4, 3)) is Outcome.DONE


# ---- nodes


def test_a_start_is_registered_only_if_it_is_newer_than_the_last() -> None:
    log = Log()
    assert log.append(register(A, 2)) is Outcome.DONE
    for boot in (1, 2):
        assert log.append(replace(register(A, boot), name="old")) is Outcome.STALE
    assert log.metadata.nodes[A] == NodeRecord(A, Boot(2), "node-1", ADDRESS, 1, "zone")
    moved = Address("127.0.0.2", 1)
    assert log.append(Register(A, Boot(5), "new", moved, 3, "elsewhere")) is Outcome.DONE
    assert log.metadata.nodes[A] == NodeRecord(A, Boot(5), "new", moved, 3, "elsewhere")


def test_a_later_start_of_a_copy_is_not_registered() -> None:
    log = Log()
    assert log.append(replace(register(A, 2), nonce=72, before=(71,))) is Outcome.DONE
    assert log.append(replace(register(A, 3), nonce=93, before=(71, 92))) is Outcome.STALE, "of another second start"
    assert log.append(replace(register(A, 4), nonce=74, before=(71, 72, 73))) is Outcome.DONE
    forgotten = replace(register(A, 9), nonce=79, before=(75, 76, 77, 78))
    assert log.append(forgotten) is Outcome.DONE, "a directory does not remember all its starts"


@pytest.mark.parametrize(
    "command",
    [
        replace(register(A), before=(1,) * 17),
        register(NodeId(0)),
        register(NodeId(-1)),
        register(NodeId(NODE_ID_MAX + 1)),
        register(A, 0),
        register(A, -1),
        register(A, weight=0),
        register(A, weight=-5),
        register(A, weight=1001),
        replace(register(A), name=""),
        replace(register(A), name="n" * 256),
        replace(register(A), zone="z" * 256),
        replace(register(A), address=Address("h" * 256, 7946)),
        replace(register(A), address=Address("127.0.0.1", 0)),
        replace(register(A), address=Address("127.0.0.1", 65536)),
    ],
    ids=lambda command: command.problem()[:40],
)
def test_a_node_that_no_table_can_place_is_not_registered(command: Register) -> None:
    log = Log()
    assert log.append(command) is Outcome.INVALID
    assert log.metadata.nodes == {}


def test_not_all_nodes_can_leave(log: Log) -> None:
    assert [log.append(Leaving(node_id)) for node_id in (A, A, B)] == [Outcome.DONE] * 3
    assert log.append(Leaving(C)) is Outcome.INVALID
    assert not log.metadata.nodes[C].is_leaving


def test_a_node_that_wants_to_leave_is_marked_until_it_starts_again(log: Log) -> None:
    assert log.append(Leaving(A)) is Outcome.DONE
    assert log.metadata.nodes[A].is_leaving
    assert log.append(Leaving(D)) is Outcome.STALE
    assert log.append(register(A, 1)) is Outcome.STALE
    assert log.metadata.nodes[A].is_leaving
    assert log.append(register(A, 2)) is Outcome.DONE
    assert not log.metadata.nodes[A].is_leaving


def test_a_node_is_forgotten_only_when_no_row_needs_it(log: Log) -> None:
    assert log.append(Forget(D)) is Outcome.STALE
    log.change(begin(0, A, B))
    assert log.append(Forget(B)) is Outcome.INVALID
    log.change(activate(0, epoch=1))
    log.change(begin(0, A, epoch=1))
    assert log.row(0).replicas == (A,)
    assert log.append(Forget(B)) is Outcome.INVALID, "a majority of the base may need its log"
    log.change(activate(0, epoch=2))
    assert log.append(Forget(B)) is Outcome.DONE
    assert B not in log.metadata.nodes
    assert log.append(Forget(B)) is Outcome.STALE
    assert log.append(register(B, 1)) is Outcome.DONE, "a node that was forgotten is a new one"


# ---- rows


def test_a_row_begins_and_becomes_active(log: Log) -> None:
    assert log.change(begin(2, A, B, C)) is Outcome.DONE
    assert log.row(2) == Row(Epoch(1), A, Boot(1), (A, B, C), Phase.SEALING, (), "because")
    assert log.change(activate(2, epoch=1)) is Outcome.DONE
    assert log.row(2) == Row(Epoch(1), A, Boot(1), (A, B, C), Phase.ACTIVE, (A, B, C), "because")


def test_of_two_proposers_with_the_same_view_one_wins(log: Log) -> None:
    assert log.change(begin(0, A, B, C)) is Outcome.DONE
    assert log.change(begin(0, B, A, C)) is Outcome.STALE
    assert log.row(0).primary == A
    takeover = begin(0, B, A, C, epoch=1, phase=Phase.SEALING)
    assert log.change(activate(0, epoch=1)) is Outcome.DONE
    assert log.change(takeover) is Outcome.STALE, "it was made for a row that was still sealing"
    assert log.change(begin(0, B, A, C, epoch=1)) is Outcome.DONE
    assert log.change(activate(0, epoch=1)) is Outcome.STALE, "the epoch is over"
    assert (log.row(0).epoch, log.row(0).phase) == (Epoch(2), Phase.SEALING)


def test_a_command_may_be_applied_twice_without_harm(log: Log) -> None:
    for command in (
        ChangeRows((begin(0, A, B, C), begin(1, B, C))),
        ChangeRows((activate(0, epoch=1),)),
        register(A, 2),
        Leaving(C),
    ):
        assert log.append(command) is Outcome.DONE
        nodes, rows = dict(log.metadata.nodes), dict(log.metadata.rows)
        log.append(command)
        assert (log.metadata.nodes, log.metadata.rows) == (nodes, rows)


def test_only_activate_changes_the_base(log: Log) -> None:
    log.change(begin(0, A, B, C))
    log.change(begin(0, B, C, epoch=1, phase=Phase.SEALING))
    assert log.row(0).base == ()
    log.change(activate(0, epoch=2))
    assert log.row(0).base == (B, C)
    log.change(begin(0, A, epoch=2))
    log.change(begin(0, C, A, epoch=3, phase=Phase.SEALING))
    assert log.row(0).base == (B, C)
    log.change(activate(0, epoch=4))
    assert log.row(0).base == (C, A)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (begin(4, A, B), Outcome.INVALID),
        (begin(-1, A, B), Outcome.INVALID),
        (begin(0, A, B, primary=C), Outcome.INVALID),
        (begin(0, A, B, A), Outcome.INVALID),
        (begin(0, A, D), Outcome.INVALID),
        (begin(0, D), Outcome.INVALID),
        (begin(0, A, B, boot=2), Outcome.STALE),
        (begin(0, A, B, epoch=1), Outcome.STALE),
        (begin(0, A, B, phase=Phase.SEALING), Outcome.STALE),
        (activate(0, epoch=0, phase=Phase.ACTIVE), Outcome.INVALID),
        (activate(0, epoch=1), Outcome.STALE),
        (activate(4, epoch=1), Outcome.INVALID),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(log: Log, change: RowChange, outcome: Outcome) -> None:
    version = log.metadata.version
    assert log.change(change) is outcome
    assert log.metadata.rows == {}
    assert log.metadata.version == version


def test_an_active_row_is_not_activated_again(log: Log) -> None:
    log.change(begin(0, A))
    log.change(activate(0, epoch=1))
    row = log.row(0)
    assert log.change(activate(0, epoch=1, phase=Phase.ACTIVE)) is Outcome.INVALID
    assert log.row(0) is row


def test_without_a_founding_there_are_no_rows() -> None:
    log = Log()
    log.append(register(A))
    assert log.change(begin(0, A)) is Outcome.INVALID
    assert log.metadata.rows == {}


def test_a_primary_that_started_again_in_the_meantime_is_not_named(log: Log) -> None:
    log.append(register(A, 2))
    assert log.change(begin(0, A, B, boot=1)) is Outcome.STALE
    assert log.change(begin(0, A, B, boot=2)) is Outcome.DONE
    assert log.row(0).boot == Boot(2)


def test_changes_in_one_command_stand_each_for_itself(log: Log) -> None:
    outcome = log.append(ChangeRows((begin(0, A, D), begin(1, A, B), begin(1, B, A), begin(2, B))))
    assert outcome is Outcome.DONE
    assert sorted(log.metadata.rows) == [1, 2]
    assert log.row(1).primary == A
    assert log.append(ChangeRows((begin(1, A), begin(0, A, D)))) is Outcome.STALE, "the first one speaks for all"
    assert log.append(ChangeRows(())) is Outcome.DONE


def test_a_raised_generation_begins_above_every_older_epoch(log: Log) -> None:
    log.change(begin(0, A))
    log.metadata.generation = 2
    log.change(begin(0, B, epoch=1, phase=Phase.SEALING))
    log.change(begin(1, B))
    first = (2 << GENERATION_SHIFT) + 1
    assert (log.row(0).epoch, log.row(1).epoch) == (first, first)
    log.change(begin(0, A, epoch=first, phase=Phase.SEALING))
    assert log.row(0).epoch == first + 1


# ---- the log


def test_what_is_no_command_raises(log: Log) -> None:
    version = log.metadata.version
    with pytest.raises(wire.WireError, match="kind 9999"):
        log.metadata.apply(9, wire.dumps([wire.VERSION, 9999, {}]))
    with pytest.raises(wire.WireError):
        log.metadata.apply(9, b"\xff")
    assert log.metadata.version == version


def test_a_message_of_another_room_is_no_command(log: Log) -> None:
    from meshnode.metadata.allocator import Move

    move = Move(PartitionId(0), Epoch(1), A, Boot(1), (A,), "")
    with pytest.raises(wire.WireError, match="log entry 77 holds a Move"):
        log.metadata.apply(77, wire.encode(move))


def test_the_version_is_the_index_of_the_last_change() -> None:
    log = Log()
    log.append(Found(MESH, 4, 3))
    log.append(register(A))
    assert log.metadata.version == 2
    log.append(register(A))
    log.append(Forget(B))
    assert log.metadata.version == 2
    log.change(begin(0, A))
    assert log.metadata.version == 5


def test_listeners_hear_each_change_and_nothing_else() -> None:
    rows: list[tuple[int, Phase]] = []
    nodes: list[tuple[int, NodeRecord | None]] = []
    metadata = Metadata(
        on_row=lambda partition, row: rows.append((partition, row.phase)),
        on_node=lambda node_id, record: nodes.append((node_id, record)),
    )
    log = Log(metadata)
    log.append(Found(MESH, 4, 3))
    log.append(register(A))
    log.append(register(A))
    log.append(ChangeRows((begin(0, A), begin(0, A), begin(1, A))))
    log.change(activate(0, epoch=1))
    log.append(register(B))
    log.append(Leaving(B))
    log.append(Forget(B))
    assert rows == [(0, Phase.SEALING), (1, Phase.SEALING), (0, Phase.ACTIVE)]
    assert [node_id for node_id, _ in nodes] == [A, B, B, B]
    assert nodes[2][1] == NodeRecord(B, Boot(1), "node-2", ADDRESS, 1, "zone", is_leaving=True)
    assert nodes[3][1] is None


# ---- any log

NODES = st.sampled_from([NodeId(0), A, B, C, D, NodeId(NODE_ID_MAX + 1)])
BOOTS = st.integers(0, 3).map(Boot)
CHANGES = st.builds(
    RowChange,
    st.integers(-1, 4).map(PartitionId),
    st.sampled_from(Step),
    st.integers(0, 4).map(Epoch),
    st.sampled_from(Phase),
    st.sampled_from([A, B, C, D]),
    st.just(Boot(1)) | BOOTS,
    st.lists(st.sampled_from([A, B, C, D]), max_size=4).map(tuple),
    st.sampled_from(["", "why"]),
)
LIKELY_CHANGES = st.builds(
    lambda change, others: replace(change, replicas=(change.primary, *(o for o in others if o != change.primary))),
    CHANGES,
    st.sets(st.sampled_from([A, B, C, D]), max_size=2).map(sorted),
)
COMMANDS = st.one_of(
    st.builds(Found, st.just(MESH), st.sampled_from([4, 4, 4, 3, 0]), st.sampled_from([3, 3, 0])),
    st.builds(
        Register, NODES, st.just(Boot(1)) | BOOTS, st.just("n"), st.just(ADDRESS), st.integers(0, 3), st.just("")
    ),
    st.builds(Leaving, NODES),
    st.builds(Forget, NODES),
    st.builds(ChangeRows, st.lists(CHANGES | LIKELY_CHANGES, max_size=4).map(tuple)),
    st.builds(ChangeRows, st.lists(LIKELY_CHANGES, min_size=1, max_size=6).map(tuple)),
)
LOGS = st.tuples(st.booleans(), st.lists(COMMANDS, max_size=30)).map(
    lambda drawn: [*([Found(MESH, 4, 3), *map(register, (A, B, C))] if drawn[0] else []), *drawn[1]]
)


def plain(metadata: Metadata) -> State:
    """The metadata as its twin keeps it."""
    founding = metadata.founding
    return {
        "founding": None if founding is None else (founding.mesh_id, founding.partitions, founding.replication),
        "nodes": {
            node_id: {
                "boot": record.boot,
                "who": (record.name, record.address, record.weight, record.zone),
                "leaving": record.is_leaving,
            }
            for node_id, record in metadata.nodes.items()
        },
        "rows": {
            partition: {
                "epoch": row.epoch,
                "primary": (row.primary, row.boot),
                "replicas": row.replicas,
                "phase": row.phase.name.lower(),
                "base": row.base,
                "reason": row.reason,
            }
            for partition, row in metadata.rows.items()
        },
    }


@given(LOGS)
def test_every_log_leads_to_what_its_twin_says(commands: list[Command]) -> None:
    log, state = Log(), EMPTY
    for command in commands:
        state, outcome = after(state, command)
        version = log.metadata.version
        assert log.append(command).value == outcome
        assert plain(log.metadata) == state
        assert log.metadata.version == (len(log.commands) if outcome == "done" else version)


@given(LOGS)
def test_the_same_log_leads_to_the_same_metadata(commands: list[Command]) -> None:
    one, other = Log(), Log()
    assert [one.append(command) for command in commands] == [other.append(command) for command in commands]
    assert plain(one.metadata) == plain(other.metadata)
    assert one.metadata.version == other.metadata.version


@given(LOGS)
def test_whatever_is_in_the_log_rows_keep_their_rules(commands: list[Command]) -> None:
    log = Log()
    for command in commands:
        before = dict(log.metadata.rows)
        log.append(command)
        for partition, row in log.metadata.rows.items():
            assert row.primary in row.replicas
            assert len(set(row.replicas)) == len(row.replicas)
            assert {*row.replicas, *row.base} <= log.metadata.nodes.keys()
            if row.phase is Phase.ACTIVE:
                assert row.base == row.replicas
            old = before.get(partition)
            if old is None:
                continue
            assert row.epoch >= old.epoch
            if row.epoch == old.epoch:
                unchanged = replace(row, phase=old.phase, base=old.base)
                assert unchanged == old, "within an epoch neither primary nor replicas change"
            if not isinstance(command, ChangeRows) or all(c.step is Step.BEGIN for c in command.changes):
                assert row.base == old.base
        assert before.keys() <= log.metadata.rows.keys()


def test_a_node_is_found_by_its_id_whatever_others_are_named() -> None:
    names = {A: node_id_text(B), B: "b", C: "c", D: "c"}
    assert resolve(names, node_id_text(B)) == B
    assert resolve(names, node_id_text(A)) == A
    assert resolve(names, "b") == B
    with pytest.raises(InvalidArgument, match=f"several nodes .* one of {node_id_text(C)}, {node_id_text(D)}"):
        resolve(names, "c")
    with pytest.raises(NotFound, match="no node 'd' is known here"):
        resolve(names, "d")


@given(LOGS)
def test_every_command_survives_the_wire(commands: list[Command]) -> None:
    for command in commands:
        assert wire.decode(wire.encode(command)) == command
