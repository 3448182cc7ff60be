"""Linearizable reads without an entry in the log (thesis 6.4; Raft paper, section 8).

Who knows an index that was the leader's commit index after the read was asked, while the leader still was the leader,
may answer the read once that index is applied. To know that it still leads, a leader numbers its rounds of heartbeats:
what was asked before a round is confirmed when a quorum has answered that round or a later one. The numbers are the
leader's own and of its term, so that an answer which comes late confirms nothing that was asked after it was sent.

With `lease_reads`, a round also confirms what is asked for a while after it was sent, since whoever answered it grants
no vote for an election timeout of its own clock. That holds as long as no clock is off by more than `clock_error_max`
of its rate, and no vote passes over the lease. So a leader that ever asked another one to take over (thesis 3.10) has
no lease for the rest of its term, nobody forgets its leader or stands against it before its time, and a node that has
just started grants no vote before an election timeout has passed. A change of the configuration ends no lease: no
majority of the next configuration does without all of a majority of the one before (thesis 4.1, and 4.3 for joint
ones), and what changes it again is agreed on by a majority that heard from the leader later still.
"""

from typing import Final

from consensus.core import Core
from consensus.messages import Message, MessageKind, ReadState
from consensus.replication import broadcast_heartbeat
from consensus.rounds import WaitingRead

WAITING_MAX: Final = 4096
"""Requests that a leader keeps: many rounds of a busy group. Whoever asks beyond that gets no answer."""


def ask(core: Core, node: int, request: int) -> None:
    """As leader, find a read index for a member, the leader itself included."""
    if not _knows_commit(core):
        if len(core.reads_put_off) < WAITING_MAX:
            core.reads_put_off.append((node, request))
    elif holds_lease(core):
        _answer(core, node, request, core.log.committed)
    elif len(core.rounds.waiting) < WAITING_MAX:
        broadcast_heartbeat(core)
        core.rounds.waiting.append(WaitingRead(core.rounds.last, core.log.committed, node, request))
        confirm(core)


def _knows_commit(core: Core) -> bool:
    """Whether an entry of its own term is committed: before that, more may be committed than the leader knows."""
    return core.log.matches(core.log.committed, core.term)


def holds_lease(core: Core) -> bool:
    """Whether a leader may answer reads without asking anybody."""
    since_s = core.rounds.confirmed_s
    if not core.config.lease_reads or core.asked_to_take_over or since_s is None:
        return False
    return core.now - since_s < core.config.lease_s


def receive_confirmation(core: Core, message: Message) -> None:
    """As leader, take note of the answer to a heartbeat."""
    core.rounds.answered(message.sender, message.round)
    confirm(core)


def confirm(core: Core) -> None:
    """As leader, answer what is confirmed. Also a change of the configuration may confirm something."""
    configuration = core.tracker.configuration
    for read in core.rounds.confirm(own=core.id, incoming=configuration.voters, outgoing=configuration.voters_outgoing):
        _answer(core, read.node, read.request, read.index)


def take_up(core: Core) -> None:
    """As leader that has committed something, look after what was asked before."""
    if _knows_commit(core):
        put_off, core.reads_put_off = core.reads_put_off, []
        for node, request in put_off:
            ask(core, node, request)


def _answer(core: Core, node: int, request: int, index: int) -> None:
    if node == core.id:
        core.read_states.append(ReadState(request, index))
    else:
        core.send(
            Message(
                MessageKind.READ_INDEX_RESPONSE,
                to=node,
                sender=core.id,
                term=core.term,
                index=index,
                request=request,
            )
        )
