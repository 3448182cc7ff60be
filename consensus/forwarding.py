"""Which proposals that another node forwards a leader may append."""

from consensus.errors import MalformedMessage, ProposalDropped
from consensus.messages import EntryKind, Message, Role
from consensus.proposals import unwrap
from consensus.raft import Raft
from consensus.reconfiguration import decode_change


def check_forwarded(message: Message, raft: Raft) -> None:
    """Let a proposal pass that this node may append as the leader that its proposer took it for.

    Raises:
        ProposalDropped: it was meant for another leader, or the configuration can't be changed so.
        MalformedMessage: no correct peer sends it.
    """
    if raft.role is not Role.LEADER:
        raise ProposalDropped(f"node {raft.id} does not lead")
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
