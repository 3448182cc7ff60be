"""Proposals on their way to the leader: those of this process, and what a leader may take of other nodes' ones."""

from collections.abc import Sequence
from dataclasses import replace

from consensus.errors import MalformedMessage, Overloaded, ProposalDropped
from consensus.messages import EntryKind, Message, Role
from consensus.proposals import Envelopes, Proposal, Proposals, unwrap
from consensus.raft import Raft
from consensus.reconfiguration import decode_change


def propose_all(proposals: Proposals, raft: Raft, envelopes: Envelopes, *, bytes_max: int) -> bool:
    """Propose all that waits, much of it together: one append and one message to each follower for the whole.

    Args:
        bytes_max: of data in what is proposed together.

    Returns:
        Whether more waits. Who hears that his was refused may have proposed again, and would for ever.
    """
    while batch := proposals.next_batch(bytes_max):
        term = raft.term
        try:
            _propose(batch, raft, envelopes)
        except Overloaded:
            proposals.put_back(batch)
            return False
        except ProposalDropped as dropped:
            proposals.refuse(batch, dropped)
            return proposals.has_unsent
        except BaseException:
            proposals.put_back(batch)  # who waits hears of it when the node stops
            raise
        else:
            proposals.mark_sent(batch, term=term)
    return False


def _propose(batch: Sequence[Proposal], raft: Raft, envelopes: Envelopes) -> None:
    (first, *_) = batch
    if isinstance(first.content, bytes | tuple):
        raft.propose(*envelopes.wrap_all(batch, raft.term))
        return
    assert len(batch) == 1, "a change goes alone"
    change = replace(first.content, context=envelopes.wrap(first.sequence, raft.term, b""))
    refused = raft.refusal(change) if raft.role is Role.LEADER else None
    if refused is not None:
        raise refused
    raft.propose_change(change)


def check_forwarded(message: Message, raft: Raft) -> None:
    """Let a proposal pass that this node may append as the leader that its proposer took it for.

    Raises:
        ProposalDropped: it was meant for another leader, or the configuration can't be changed so.
        MalformedMessage: no correct peer sends it.
    """
    if raft.role is not Role.LEADER:
        raise ProposalDropped(f"who was asked does not lead in term {raft.term}: propose again")
    for entry in message.entries:
        if entry.kind is EntryKind.NORMAL:
            envelope, _ = unwrap(entry.data)
        else:
            change = decode_change(entry)
            envelope, _ = unwrap(change.context)
            refused = raft.refusal(change)
            if refused is not None:
                raise refused
        if envelope.term != raft.term:
            raise ProposalDropped(f"it was meant for the leader of term {envelope.term}")
        if envelope.proposer != message.sender:
            raise MalformedMessage(f"node {message.sender} forwards in the name of node {envelope.proposer}")
