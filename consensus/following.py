"""The follower's side: taking the leader's log, commit index and snapshots (Raft paper 5.3 and 7)."""

from consensus.core import Core
from consensus.errors import LostLog
from consensus.messages import APPEND_RESPONSE, HEARTBEAT_RESPONSE, Message, Role, Snapshot
from consensus.reconfiguration import Reconfiguration


def receive_append(core: Core, message: Message) -> None:
    """Append what follows a place where the logs agree; else say where they may."""
    log = core.log
    if message.index < log.committed:
        # Committed entries agree already: say how far, so that the leader goes on from there.
        _answer(core, message, index=log.committed)
        return
    if not log.matches(message.index, message.log_term):
        _reject(core, message, index=message.index, log_term=message.log_term)
        return
    # Only a conflict truncates: an old append must not cut off what came after it (Raft paper, figure 2).
    conflict = log.first_conflict(message.entries)
    if conflict is not None:
        log.append(message.entries[conflict:])
    if core.lost is not None:
        core.note_growth()
    last_new = message.index + len(message.entries)
    if message.commit > log.committed:
        log.commit_to(min(message.commit, last_new))
    _answer(core, message, index=last_new)


def receive_heartbeat(core: Core, message: Message) -> None:
    """Raise the commit index and let the leader know.

    Raises:
        LostLog: the leader knows that this node had entries which it has no longer, and the node did not know.
    """
    if message.commit <= core.log.last:
        core.log.commit_to(message.commit)
    elif core.lost is not None:
        _reject(core, message, index=message.commit, log_term=message.term)
    else:
        raise LostLog(
            f"node {message.sender} says that this node acknowledged index {message.commit}, but its log ends at"
            f" {core.log.last}: remove this node from the group and let it join with an empty disk and a new id"
        )
    core.send(Message(HEARTBEAT_RESPONSE, to=message.sender, sender=core.id, term=core.term, round=message.round))


def receive_snapshot(core: Core, message: Message) -> None:
    """Take the snapshot in place of the log, unless the log is further."""
    assert message.snapshot is not None, "checked on the way in"
    if _restore(core, message.snapshot):
        core.note_growth()
        _answer(core, message, index=core.log.last)
    else:
        _answer(core, message, index=core.log.committed)


def _restore(core: Core, snapshot: Snapshot) -> bool:
    assert core.role is Role.FOLLOWER
    log = core.log
    if snapshot.index <= log.committed:
        return False
    configuration = snapshot.configuration
    if core.id not in configuration.members:
        return False
    if log.matches(snapshot.index, snapshot.term):
        # The log has all of it: only the commit index was behind.
        log.commit_to(snapshot.index)
        return False
    log.restore(snapshot)
    # Nothing that was known of the members holds any longer.
    known = frozenset(core.tracker.progress)
    core.tracker.switch(Reconfiguration(configuration, forgotten=known), last_index=log.last)
    return True


def _reject(core: Core, message: Message, *, index: int, log_term: int) -> None:
    """Say that the log does not match at `index`, and up to where it may."""
    hint, hint_term = core.log.agreement_hint(min(index, core.log.last), log_term)
    core.send(
        Message(
            APPEND_RESPONSE,
            to=message.sender,
            sender=core.id,
            term=core.term,
            index=index,
            log_term=hint_term,
            reject=True,
            hint=hint,
            lost=core.lost is not None,
        )
    )


def _answer(core: Core, message: Message, *, index: int) -> None:
    core.send(Message(APPEND_RESPONSE, message.sender, core.id, core.term, index))  # see `Message`
