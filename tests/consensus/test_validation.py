"""What no correct peer sends does not get in."""

from dataclasses import replace

import pytest

from consensus.config import RaftConfig
from consensus.errors import MalformedMessage, UnknownPeer
from consensus.messages import NODE_ID_MAX, Configuration, Entry, Message, MessageKind, Snapshot
from consensus.validation import check_message
from tests.consensus.group import Group

APPEND = Message(
    MessageKind.APPEND, to=1, sender=2, term=5, index=3, log_term=2, entries=(Entry(2, 4), Entry(5, 5)), commit=4
)
SNAPSHOT = Message(
    MessageKind.SNAPSHOT,
    to=1,
    sender=2,
    term=5,
    snapshot=Snapshot(3, 2, Configuration((1, 2), (1, 2, 4), (3,), (4,))),
)
VOTE = Message(MessageKind.VOTE, to=1, sender=2, term=5, index=3, log_term=2)
PROPOSE = Message(MessageKind.PROPOSE, to=1, sender=2, entries=(Entry(0, 0, data=b"a"),))


def with_configuration(configuration: Configuration) -> Message:
    return replace(SNAPSHOT, snapshot=Snapshot(3, 2, configuration))


@pytest.mark.parametrize(
    "message",
    [
        APPEND,
        SNAPSHOT,
        VOTE,
        PROPOSE,
        Message(MessageKind.HEARTBEAT, to=1, sender=2, term=1),
        Message(MessageKind.TRANSFER_LEADER, to=1, sender=2),
    ],
)
def test_what_a_correct_peer_sends_gets_in(message: Message) -> None:
    check_message(message, receiver=1)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (replace(VOTE, to=3), "it is for node 3"),
        (replace(VOTE, sender=0), "no node id"),
        (replace(VOTE, sender=NODE_ID_MAX + 1), "no node id"),
        (replace(VOTE, sender=1), "from this node itself"),
        (replace(VOTE, hint=-1), "out of range"),
        (replace(VOTE, index=NODE_ID_MAX + 1), "out of range"),
        (replace(VOTE, term=0), "its term is 0"),
        (replace(PROPOSE, term=3), "its term is 3"),
        (replace(PROPOSE, entries=()), "proposes nothing"),
        (replace(VOTE, log_term=0), "cannot be in a log"),
        (replace(VOTE, log_term=6), "cannot be in a log"),
        (replace(APPEND, index=0), "cannot be in a log"),
        (replace(APPEND, entries=(Entry(2, 5),)), "entry 5 is where 4 belongs"),
        (replace(APPEND, entries=(Entry(1, 4),)), "has term 1 after term 2"),
        (replace(APPEND, entries=(Entry(6, 4),)), "has term 6 after term 2"),
        (replace(APPEND, index=0, log_term=0, entries=(Entry(0, 1),)), "has term 0"),
        (replace(SNAPSHOT, snapshot=None), "has no snapshot"),
        (replace(SNAPSHOT, snapshot=Snapshot(0, 1, Configuration((1,)))), "cannot be"),
        (replace(SNAPSHOT, snapshot=Snapshot(3, 6, Configuration((1,)))), "cannot be"),
        (with_configuration(Configuration()), "no voters"),
        (with_configuration(Configuration((2, 1))), "no sorted set"),
        (with_configuration(Configuration((1, 1))), "no sorted set"),
        (with_configuration(Configuration((0, 1))), "no sorted set"),
        (with_configuration(Configuration((1,), learners=(1,))), "voter and learner"),
        (with_configuration(Configuration((1,), (2,), (), (3,))), "voter and learner"),
    ],
)
def test_what_no_correct_peer_sends_does_not_get_in(message: Message, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        check_message(message, receiver=1)


def test_an_answer_from_outside_the_configuration_is_refused() -> None:
    group = Group(2)
    with pytest.raises(UnknownPeer, match="node 9 is not in the configuration"):
        group[1].raft.receive(Message(MessageKind.VOTE_RESPONSE, to=1, sender=9, term=1), 0.0)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"id": 0}, "from 1 to"),
        ({"id": NODE_ID_MAX + 1}, "from 1 to"),
        ({"heartbeat_interval_s": 0.0}, "several heartbeats"),
        ({"heartbeat_interval_s": 2.0}, "several heartbeats"),
        ({"append_bytes_max": 0}, "append_bytes_max is 0"),
        ({"check_quorum": False, "lease_reads": True}, "no lease"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RaftConfig(**({"id": 1} | setting))  # type: ignore[arg-type]
