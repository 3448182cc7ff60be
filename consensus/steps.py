"""What a message does to a node: its term is compared first, then its kind and the node's role decide."""

from typing import Final

from consensus import election, following, reads, replication
from consensus.core import Core
from consensus.errors import MalformedMessage
from consensus.messages import (
    APPEND,
    FOLLOWER,
    HEARTBEAT,
    HEARTBEAT_RESPONSE,
    LEADER,
    NO_NODE,
    Message,
    MessageKind,
    ReadState,
    Role,
)

_FROM_A_LEADER: Final = frozenset({MessageKind.APPEND, MessageKind.HEARTBEAT, MessageKind.SNAPSHOT})
_FROM_A_FOLLOWER: Final = frozenset({MessageKind.APPEND_RESPONSE, MessageKind.HEARTBEAT_RESPONSE})


def step(core: Core, message: Message) -> None:
    """Take a message that is well formed.

    Raises:
        MalformedMessage: no correct peer sends it in this state.
        ProposalDropped: a forwarded proposal that this node cannot take. Nothing changed.
        LostLog: the node's disk lost what it had acknowledged.
    """
    if message.term != core.term and not _heed_term(core, message):
        return
    kind = message.kind
    if kind in _FROM_A_LEADER:
        _follow(core, message)
    elif kind in _FROM_A_FOLLOWER:
        # Without progress, it is the answer of a leader to itself that has just applied its own removal.
        if core.role is LEADER and message.sender in core.tracker.progress:
            _lead(core, message)
    else:
        _step_rarely(core, message)


def _step_rarely(core: Core, message: Message) -> None:
    match message.kind:
        case MessageKind.READ_INDEX:
            if core.is_leader:
                reads.ask(core, message.sender, message.request)
        case MessageKind.READ_INDEX_RESPONSE:
            core.read_states.append(ReadState(message.request, message.index))
        case MessageKind.PROPOSE:
            replication.propose(core, message.entries)
        case MessageKind.VOTE | MessageKind.PRE_VOTE:
            election.receive_vote_request(core, message)
        case MessageKind.VOTE_RESPONSE | MessageKind.PRE_VOTE_RESPONSE:
            election.receive_vote(core, message)
        case MessageKind.TRANSFER_LEADER:
            replication.transfer(core, message.sender)
        case MessageKind.TIMEOUT_NOW:
            if core.role is Role.FOLLOWER:
                election.stand(core, transfer=True)
        case _:
            raise AssertionError(f"{message.kind!r} is none of these")


def _lead(core: Core, message: Message) -> None:
    if message.kind is HEARTBEAT_RESPONSE:
        replication.receive_heartbeat_response(core, message)
        reads.receive_confirmation(core, message)
        return
    if not message.reject and message.index > core.log.last:
        raise MalformedMessage(
            f"node {message.sender} acknowledges index {message.index} in term {message.term},"
            f" whose leader has a log up to {core.log.last}"
        )
    replication.receive_append_response(core, message)
    if core.reads_put_off:
        reads.take_up(core)


def _follow(core: Core, message: Message) -> None:
    if core.role is LEADER:
        raise MalformedMessage(f"node {message.sender} claims to lead term {core.term}, which this node leads")
    core.heard_leader = core.now
    if core.role is FOLLOWER:
        core.election_began = core.now
        core.leader = message.sender
    else:
        core.become_follower(message.term, message.sender)
    if message.kind is APPEND:
        following.receive_append(core, message)
    elif message.kind is HEARTBEAT:
        following.receive_heartbeat(core, message)
    else:
        following.receive_snapshot(core, message)


def _heed_term(core: Core, message: Message) -> bool:
    """Compare terms that differ (Raft paper 5.1). False if the message needs no more than that."""
    if message.term == 0:
        return True
    if message.term < core.term:
        _answer_old_term(core, message)
        return False
    asks_vote = message.kind in (MessageKind.VOTE, MessageKind.PRE_VOTE)
    if asks_vote and core.holds_lease and not message.transfer:
        # There is a leader: whoever does not hear from it must not depose it (thesis 4.2.3).
        return False
    # A pre-vote is a question about a term that nobody is in, and so is the answer that grants it.
    hypothetical = message.kind is MessageKind.PRE_VOTE or (
        message.kind is MessageKind.PRE_VOTE_RESPONSE and not message.reject
    )
    if not hypothetical:
        core.become_follower(message.term, message.sender if message.kind in _FROM_A_LEADER else NO_NODE)
    return True


def _answer_old_term(core: Core, message: Message) -> None:
    # One that has lost a part of its log can't stand in its own term either, whatever protects the others.
    protected = core.config.check_quorum or core.config.pre_vote or core.lost is not None
    if protected and message.kind in (MessageKind.APPEND, MessageKind.HEARTBEAT):
        # A leader of an old term would never hear of the new one: this node's votes are ignored as long as that
        # leader is heard of. The answer tells it the term.
        core.send(Message(MessageKind.APPEND_RESPONSE, to=message.sender, sender=core.id, term=core.term))
    elif message.kind is MessageKind.PRE_VOTE:
        # Else a node with a higher term and a shorter log could wait for each other with the sender forever.
        election.refuse(core, message)
