"""The leader's side: sending the log, counting who has it, proposals, heartbeats (Raft paper 5.3)."""

from collections.abc import Sequence

from consensus.core import Core
from consensus.errors import ConfigurationRefused, Overloaded, ProposalDropped, Refusal
from consensus.messages import (
    APPEND,
    HEARTBEAT,
    LEADER,
    NO_NODE,
    NORMAL,
    ConfChange,
    ConfChangeSet,
    Entry,
    Message,
    MessageKind,
)
from consensus.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from consensus.reconfiguration import decode_change, encode_change, leaves_joint, reconfigure

# Proposals.


def propose(core: Core, entries: tuple[Entry, ...]) -> None:
    """As leader, take what is proposed; as follower, pass it on to the leader.

    Raises:
        ProposalDropped: no leader is known, or as in `take_proposal`.
    """
    if core.role is LEADER:
        take_proposal(core, entries)
    elif core.leader == NO_NODE:
        raise ProposalDropped(f"no leader is known in term {core.term}: propose again later")
    else:
        core.send(Message(MessageKind.PROPOSE, to=core.leader, sender=core.id, entries=entries))


def take_proposal(core: Core, entries: Sequence[Entry]) -> None:
    """As leader, append what was proposed and send it on.

    A configuration change that cannot be made now becomes an empty entry, as in etcd-io/raft: what was proposed with
    it keeps its place.

    Raises:
        ProposalDropped: the leader is no member any longer, or is handing over.
        Overloaded: too much is uncommitted.
    """
    _check_takes(core)
    # What pending_change becomes if the entries are taken on.
    pending = core.pending_change
    placed = []
    for index, entry in enumerate(entries, start=core.log.last + 1):
        kind, data = entry.kind, entry.data
        if kind is not NORMAL:
            if core.config.check_changes and refusal(core, decode_change(entry), pending=pending):
                kind, data = NORMAL, b""
            else:
                pending = index
        placed.append(Entry(core.term, index, kind, data))
    _take_on(core, placed)
    core.pending_change = pending
    broadcast_append(core)


def take_data(core: Core, data: Sequence[bytes]) -> None:
    """As leader, append what the application proposes here and send it on.

    Raises:
        ProposalDropped, Overloaded: as in `take_proposal`.
    """
    _check_takes(core)
    term = core.term
    _take_on(core, [Entry(term, index, NORMAL, one) for index, one in enumerate(data, start=core.log.last + 1)])
    broadcast_append(core)


def _check_takes(core: Core) -> None:
    if core.id not in core.tracker.progress:
        raise ProposalDropped(f"the leader of term {core.term} is removed: propose again when another leads")
    if core.transferee != NO_NODE:
        raise ProposalDropped(f"the leader of term {core.term} is handing over: propose again after that")


def _take_on(core: Core, placed: Sequence[Entry]) -> None:
    if not core.take_on(placed):
        raise Overloaded(
            f"{core.uncommitted_bytes} bytes are uncommitted and at most {core.config.uncommitted_bytes_max} may be:"
            " propose again when earlier proposals have come back"
        )


def refusal(
    core: Core, change: ConfChange | ConfChangeSet, *, pending: int | None = None
) -> ConfigurationRefused | None:
    """Why a leader would not append the change now; None if it would.

    One change at a time: the next one only when the last is applied here (thesis 4.1).

    Args:
        change: what is to be proposed.
        pending: the index of the latest change, if it is not the one that the core knows of.
    """
    latest = core.pending_change if pending is None else pending
    if latest > core.log.applied:
        return ConfigurationRefused(
            Refusal.PENDING, f"index {latest} may hold a change and {core.log.applied} is applied"
        )
    if core.tracker.configuration.is_joint and not leaves_joint(change):
        return ConfigurationRefused(Refusal.ALREADY_JOINT, f"cannot change {core.tracker.configuration}")
    try:
        reconfigure(core.tracker.configuration, change)
    except ConfigurationRefused as refused:
        return refused
    return None


def leave_joint_if_due(core: Core) -> None:
    """As leader, propose to leave a joint configuration that asked for it, once its own entry is applied."""
    due = core.tracker.configuration.auto_leave and core.log.applied >= core.pending_change
    if due and core.is_leader and core.transferee == NO_NODE and core.id in core.tracker.progress:
        kind, data = encode_change(ConfChangeSet())
        take_proposal(core, (Entry(0, 0, kind, data),))


# Sending.


def broadcast_append(core: Core) -> None:
    """Send everyone what they lack, and the commit index."""
    for node in core.tracker.progress:
        if node != core.id:
            send_append(core, node)


def send_append(core: Core, node: int, *, if_empty: bool = True) -> bool:
    """Send one append, or a snapshot where the log no longer reaches back far enough.

    Args:
        node: to whom.
        if_empty: send an append without entries, too: it carries the commit index, and probes.

    Returns:
        Whether something was sent.
    """
    progress, log = core.tracker.progress[node], core.log
    if progress.paused or progress.state is SNAPSHOT:
        return False
    previous = progress.next - 1
    has_more = previous < log.last
    if not has_more and not if_empty:
        return False
    log_term = log.term(previous)
    if log_term is None:
        return _send_snapshot(core, node, progress)
    entries: tuple[Entry, ...] = ()
    size_bytes = 0
    # With a full window an empty append still goes out: if the whole window was lost, its answer says so.
    if has_more and (progress.state is not REPLICATE or not progress.inflights.full):
        entries, size_bytes = log.piece(progress.next, core.config.append_bytes_max)
    if not entries and not if_empty:
        return False
    core.send(
        Message(APPEND, node, core.id, core.term, previous, log_term, entries, log.committed)  # see `Message`
    )
    progress.note_sent(entries=len(entries), size_bytes=size_bytes, commit=log.committed)
    return True


def _send_snapshot(core: Core, node: int, progress: Progress) -> bool:
    if not progress.recent_active:
        # A snapshot is large, and this node may be gone.
        return False
    snapshot = core.log.stored_snapshot()
    assert snapshot.index, "entries were compacted away and no snapshot covers them"
    progress.become_snapshot(snapshot.index)
    core.send(Message(MessageKind.SNAPSHOT, to=node, sender=core.id, term=core.term, snapshot=snapshot))
    return True


def broadcast_heartbeat(core: Core) -> None:
    """Let everyone know that the leader is there (Raft paper 5.2)."""
    core.heartbeat_sent = core.now
    number = core.rounds.begin(core.now)
    for node, progress in core.tracker.progress.items():
        if node == core.id:
            continue
        # Never beyond what the follower is known to have, since it would commit something else there.
        commit = min(progress.match, core.log.committed)
        core.send(Message(HEARTBEAT, to=node, sender=core.id, term=core.term, commit=commit, round=number))
        progress.note_commit_sent(commit)


def send_timeout_now(core: Core, node: int) -> None:
    """Ask a node whose log is complete to stand for election at once (thesis 3.10)."""
    core.asked_to_take_over = True
    core.send(Message(MessageKind.TIMEOUT_NOW, to=node, sender=core.id, term=core.term))


# Answers.


def receive_append_response(core: Core, message: Message) -> None:
    """As leader, take note of what a follower, or this node's own disk, has."""
    progress = core.tracker.progress[message.sender]
    progress.recent_active = True
    if message.reject:
        _step_back(core, message, progress)
        return
    probed = progress.match == message.index and progress.state is PROBE
    if not progress.acknowledge(message.index) and not probed:
        return
    if progress.state is REPLICATE:
        progress.inflights.free_up_to(message.index)
    elif progress.state is PROBE:
        progress.become_replicate()
    elif progress.match + 1 >= core.log.first_index():
        # The log reaches on from what the follower has, whichever snapshot it took.
        progress.become_probe()
        progress.become_replicate()
    # What was committed before raises nothing, whoever else has it now.
    if progress.match > core.log.committed and core.commit_by_quorum():
        broadcast_append(core)
    elif message.sender != core.id and progress.lacks_commit(core.log.committed):
        send_append(core, message.sender)
    if message.sender == core.id:
        return
    while progress.next <= core.log.last and send_append(core, message.sender, if_empty=False):
        pass
    if message.sender == core.transferee and progress.match == core.log.last:
        send_timeout_now(core, message.sender)


def _step_back(core: Core, message: Message, progress: Progress) -> None:
    hint = message.hint
    if message.log_term:
        # The follower skipped its own entries that cannot match; skip those of this log that cannot either.
        hint, _ = core.log.agreement_hint(message.hint, message.log_term)
    if message.lost and progress.match:
        progress.forget_match(hint=hint)
        send_append(core, message.sender)
    elif progress.reject(message.index, hint=hint):
        if progress.state is REPLICATE:
            progress.become_probe()
        send_append(core, message.sender)


def receive_heartbeat_response(core: Core, message: Message) -> None:
    """As leader, try again where an append may have been lost."""
    progress = core.tracker.progress[message.sender]
    progress.recent_active = True
    progress.paused = False
    if progress.match < core.log.last or progress.state is PROBE:
        send_append(core, message.sender)


# Requests of the application.


def transfer(core: Core, node: int) -> None:
    """Hand over to a voter; a follower passes the wish on to its leader."""
    if core.is_leader:
        _hand_over(core, node)
    elif core.leader != NO_NODE:
        # As in etcd-io/raft, the wish comes from the node that shall lead.
        core.send(Message(MessageKind.TRANSFER_LEADER, to=core.leader, sender=node))


def hand_over(core: Core) -> None:
    """As leader whose disk hangs, hand over to a voter that has what is committed, if that is more than this disk has.

    It is, if the others are a quorum without it. A voter that did not take over in this term is asked again only after
    all others: nobody knows why it did not. Without effect while a transfer is under way.
    """
    own, committed, tried = core.tracker.progress.get(core.id), core.log.committed, core.heirs_tried
    if not core.is_leader or core.transferee != NO_NODE or (own is not None and committed <= own.match):
        return
    heirs = [
        (-tried.get(node, 0), progress.recent_active, progress.match, node)
        for node, progress in core.tracker.progress.items()
        if node != core.id and not progress.is_learner and progress.match >= committed
    ]
    if heirs:
        *_, heir = max(heirs)
        tried[heir] = tried.get(heir, 0) + 1
        _hand_over(core, heir)


def _hand_over(core: Core, node: int) -> None:
    """As leader, hand over, once the node has the whole log. Given up after an election timeout (thesis 3.10)."""
    progress = core.tracker.progress.get(node)
    if progress is None or progress.is_learner or core.transferee == node:
        return
    core.transferee = NO_NODE
    if node == core.id:
        return
    core.transferee = node
    core.election_began = core.now
    if progress.match == core.log.last:
        send_timeout_now(core, node)
    else:
        progress.paused = False
        send_append(core, node)


def report_unreachable(core: Core, node: int) -> None:
    """Messages to the node were lost for certain: stop sending ahead."""
    progress = core.tracker.progress.get(node)
    if core.is_leader and progress is not None and progress.state is REPLICATE:
        progress.become_probe()


def report_snapshot(core: Core, node: int, *, delivered: bool) -> None:
    """A snapshot was handed over to the node, or it failed. Appends follow after its answer or a heartbeat."""
    progress = core.tracker.progress.get(node)
    if not core.is_leader or progress is None or progress.state is not SNAPSHOT:
        return
    if not delivered:
        progress.pending_snapshot = 0
    progress.become_probe()
    progress.paused = True


def check_quorum(core: Core) -> None:
    """As leader, step down if no quorum was heard of for an election timeout, and count anew (thesis 6.2)."""
    if not core.tracker.quorum_is_active():
        core.become_follower(core.term, NO_NODE)
    for node, progress in core.tracker.progress.items():
        if node != core.id:
            progress.recent_active = False
