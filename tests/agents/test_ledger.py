"""The replicated state of a partition, against a twin that remembers everything."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode import wire
from meshnode.agents.ledger import Expired, Ledger, Session, SessionOpened, Turn
from meshnode.agents.messages import Answer, Status
from meshnode.agents.origin import Origin
from meshnode.agents.reply import Reply
from meshnode.identity import Epoch, PartitionId
from meshnode.partitions.replica import Machine

KEYS = st.sampled_from(["a", "b", "c"])
TIMES = st.integers(min_value=0, max_value=5).map(float)
REPLIES = st.builds(Reply, st.sampled_from(["", "agent"]), st.binary(max_size=3))
SESSIONS = st.integers(min_value=0, max_value=12)
NUMBERS = st.integers(min_value=1, max_value=12)
TURNS = st.builds(
    Turn,
    agent_type=st.sampled_from(["x", "y"]),
    key=KEYS,
    state=st.none() | st.binary(max_size=3),
    reply=REPLIES,
    session=SESSIONS,
    number=NUMBERS,
    lowest=NUMBERS | st.just(2**62),
)
TURNS_BY_ID = st.builds(
    Turn,
    agent_type=st.sampled_from(["x", "y"]),
    key=KEYS,
    state=st.none() | st.binary(max_size=3),
    reply=REPLIES,
    request_id=st.sampled_from(["r1", "r2", "r3"]),
    keep_until_s=TIMES,
    elapsed_s=TIMES,
)
ORIGINS = st.builds(
    lambda partition, epoch, turn, horizon, still_open: Origin(
        PartitionId(partition), Epoch(epoch), turn, horizon, tuple(n for n in sorted(still_open) if n < horizon)
    ),
    st.integers(0, 1),
    st.integers(1, 2),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sets(st.integers(1, 4)),
)
NESTED_TURNS = st.builds(
    Turn,
    agent_type=st.sampled_from(["x", "y"]),
    key=KEYS,
    state=st.none() | st.binary(max_size=3),
    reply=REPLIES,
    request_id=st.sampled_from(["r1", "r2", "r3", "r4", "r5"]),
    keep_until_s=TIMES,
    elapsed_s=TIMES,
    origin=ORIGINS,
)
EXPIRIES = st.builds(
    Expired,
    sessions=st.lists(SESSIONS, max_size=3).map(tuple),
    elapsed_s=TIMES,
)
RECORDS = st.lists(st.just(SessionOpened()) | TURNS | TURNS_BY_ID | NESTED_TURNS | NESTED_TURNS | EXPIRIES, max_size=30)


@dataclass
class Twin:
    """Keeps each reply that ever was, and asks the whole history what may still be asked for."""

    history: list[object] = field(default_factory=list)

    def states(self) -> dict[tuple[str, str], bytes]:
        turns = [record for record in self.history if isinstance(record, Turn) and record.state is not None]
        return {(turn.agent_type, turn.key): turn.state for turn in turns if turn.state is not None}

    def sessions(self) -> dict[int, tuple[int, dict[int, Reply]]]:
        found: dict[int, tuple[int, dict[int, Reply]]] = {}
        for sequence, record in enumerate(self.history, start=1):
            if isinstance(record, SessionOpened) and not self._expired_after(sequence):
                since = [
                    turn for turn in self.history[sequence:] if isinstance(turn, Turn) and turn.session == sequence
                ]
                lowest = max([1, *(turn.lowest for turn in since)])
                replies = {turn.number: turn.reply for turn in since if turn.number >= lowest}
                found[sequence] = (lowest, replies)
        return found

    def _expired_after(self, session: int) -> bool:
        later = [record for record in self.history[session:] if isinstance(record, Expired)]
        return any(session in record.sessions for record in later)

    def cut_s(self, position: int) -> float:
        """What was to be kept until before it is forgotten, of what the record at ``position`` left."""
        times = [
            max(
                [0.0, *(record.elapsed_s for record in self.history[: later + 1] if isinstance(record, Turn | Expired))]
            )
            for later in range(position, len(self.history))
            if isinstance(self.history[later], Expired)
        ]
        return max(times, default=0.0)

    def request_ids(self) -> dict[tuple[str, str, str], Reply]:
        found: dict[tuple[str, str, str], Reply] = {}
        for position, record in enumerate(self.history):
            if isinstance(record, Turn) and record.request_id and record.origin is None:
                identity = (record.agent_type, record.key, record.request_id)
                if record.keep_until_s >= self.cut_s(position):
                    found[identity] = record.reply
                else:
                    found.pop(identity, None)
        return found

    def nested(self) -> dict[tuple[str, str, str], Reply]:
        found: dict[tuple[str, str, str], Reply] = {}
        for position, record in enumerate(self.history):
            if isinstance(record, Turn) and record.origin is not None:
                identity = (record.agent_type, record.key, record.request_id)
                found.pop(identity, None)
                if record.keep_until_s >= self.cut_s(position) and not self._is_let_go(position, record.origin):
                    found[identity] = record.reply
        return found

    def _is_let_go(self, position: int, origin: Origin) -> bool:
        """Whether news of its epoch that came later, and was the latest then, says that the turn has ended."""
        latest: Origin | None = None
        for at, record in enumerate(self.history):
            if isinstance(record, Turn) and record.origin is not None and record.origin.partition == origin.partition:
                news = record.origin
                if latest is None or news.is_after(latest):
                    latest = news
                    if at > position and news.epoch == origin.epoch and news.has_ended(origin.turn):
                        return True
        return False


def apply_all(ledger: Ledger, records: list[object], *, first: int = 1) -> None:
    for sequence, record in enumerate(records, start=first):
        ledger.apply(sequence, wire.encode(record))


@given(RECORDS)
def test_a_ledger_keeps_what_a_twin_that_forgets_nothing_says(records: list[object]) -> None:
    ledger = Ledger()
    apply_all(ledger, records)
    twin = Twin(records)
    assert ledger.states == twin.states()
    sessions = {number: (session.lowest, session.replies or {}) for number, session in ledger.sessions.items()}
    assert sessions == twin.sessions()
    assert {identity: reply for identity, (_until_s, reply) in ledger.request_ids.items()} == twin.request_ids()
    assert {identity: kept.reply for identity, kept in ledger.nested.replies.items()} == twin.nested()
    times = [record.elapsed_s for record in records if isinstance(record, Turn | Expired)]
    assert ledger.elapsed_s == max(times, default=0.0)
    replies = [
        *twin.request_ids().values(),
        *twin.nested().values(),
        *(reply for _, kept in twin.sessions().values() for reply in kept.values()),
    ]
    payloads = [*twin.states().values(), *(reply.payload for reply in replies)]
    assert ledger.payload_bytes == sum(map(len, payloads))


@given(RECORDS, st.integers(min_value=0, max_value=30))
def test_a_snapshot_at_any_point_and_the_rest_are_the_whole(records: list[object], cut: int) -> None:
    whole, first, second = Ledger(), Ledger(), Ledger()
    apply_all(whole, records)
    apply_all(first, records[:cut])
    second.restore(first.snapshot())
    assert second.snapshot() == first.snapshot()
    apply_all(second, records[cut:], first=1 + len(records[:cut]))
    assert second.snapshot() == whole.snapshot()
    assert (second.states, second.request_ids) == (whole.states, whole.request_ids)
    assert (second.nested.replies, second.elapsed_s) == (whole.nested.replies, whole.elapsed_s)
    assert second.payload_bytes == whole.payload_bytes


def test_empty_bytes_restore_the_state_before_any_record() -> None:
    ledger = Ledger()
    apply_all(ledger, [SessionOpened(), Turn("x", "a", b"s", Reply("", b""), session=1, number=1)])
    ledger.restore(b"")
    assert (ledger.states, ledger.sessions, ledger.request_ids) == ({}, {}, {})


def test_a_reply_below_the_lowest_unanswered_request_is_not_kept() -> None:
    session = Session()
    session.note(2, 2, Reply("", b"two"))
    session.note(1, 1, Reply("", b"one"))
    assert session.replies == {2: Reply("", b"two")}


def test_a_leap_of_the_lowest_request_takes_no_time() -> None:
    session = Session()
    session.note(1, 1, Reply("", b""))
    session.note(2**62, 2**62, Reply("", b""))
    assert (session.lowest, session.replies) == (2**62, {2**62: Reply("", b"")})


def test_a_request_id_that_returns_after_its_time_is_kept_anew() -> None:
    ledger = Ledger()
    turns = [Turn("x", "a", None, Reply("", answer), request_id="r", keep_until_s=until) for answer, until in
             ((b"old", 1.0), (b"new", 9.0))]  # fmt: skip
    apply_all(ledger, [turns[0], Expired((), 2.0), turns[1], Expired((), 3.0)])
    assert ledger.request_ids == {("x", "a", "r"): (9.0, Reply("", b"new"))}


def test_a_record_of_another_kind_raises() -> None:
    ledger: Machine = Ledger()
    with pytest.raises(wire.WireError, match="record 4 holds a Answer"):
        ledger.apply(4, wire.encode(Answer(1, Status.DONE)))
    with pytest.raises(wire.UnknownKind):
        ledger.apply(5, wire.dumps([wire.VERSION, 64_999, {}]))
    with pytest.raises(wire.WireError):
        ledger.apply(6, b"\xff")


def test_a_snapshot_of_another_form_raises() -> None:
    with pytest.raises(wire.WireError):
        Ledger().restore(wire.dumps([1, 2]))
