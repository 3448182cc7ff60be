"""Elections: standing, voting, counting (Raft paper 5.2 and 5.4.1; thesis 9.6 for the pre-vote, 3.10 for transfers)."""

from consensus.core import Core
from consensus.messages import NO_NODE, EntryKind, Message, MessageKind, Role
from consensus.quorum import VoteResult
from consensus.replication import broadcast_append


def stand(core: Core, *, transfer: bool = False) -> None:
    """Stand for election, or ask whether it would be worth it. Without effect where that is not allowed.

    Args:
        transfer: the leader asked for it: skip the pre-vote, and let voters ignore their lease.
    """
    if core.is_leader or not core.is_promotable or _has_unapplied_change(core):
        return
    if core.config.pre_vote and not transfer:
        _ask_for_pre_votes(core)
    else:
        _ask_for_votes(core, transfer=transfer)


def _has_unapplied_change(core: Core) -> bool:
    """Whether a committed configuration change is not in force here yet: its voters may not be this node's voters."""
    log = core.log
    index = log.applied + 1
    while index <= log.committed:
        # In pieces, since the unapplied part may be long after a restart.
        entries = log.entries(index, core.config.apply_bytes_max, high=log.committed + 1)
        if any(entry.kind is not EntryKind.NORMAL for entry in entries):
            return True
        index = entries[-1].index + 1
    return False


def _ask_for_pre_votes(core: Core) -> None:
    core.become_pre_candidate()
    _ask(core, MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_RESPONSE, term=core.term + 1, transfer=False)


def _ask_for_votes(core: Core, *, transfer: bool) -> None:
    core.become_candidate()
    _ask(core, MessageKind.VOTE, MessageKind.VOTE_RESPONSE, term=core.term, transfer=transfer)


def _ask(core: Core, question: MessageKind, answer: MessageKind, *, term: int, transfer: bool) -> None:
    index, log_term = core.log.last_index(), core.log.last_term()
    for node in core.tracker.configuration.electorate:
        if node == core.id:
            # Its own vote counts once it is on disk, as anyone's does.
            core.send(Message(answer, to=node, sender=core.id, term=term))
        else:
            core.send(
                Message(question, to=node, sender=core.id, term=term, index=index, log_term=log_term, transfer=transfer)
            )


def receive_vote_request(core: Core, message: Message) -> None:
    """Answer a candidate or pre-candidate whose term is at least this node's."""
    pre_vote = message.kind is MessageKind.PRE_VOTE
    answer = MessageKind.PRE_VOTE_RESPONSE if pre_vote else MessageKind.VOTE_RESPONSE
    may_vote = (
        core.vote == message.sender
        or (core.vote == NO_NODE and core.leader == NO_NODE)
        or (pre_vote and message.term > core.term)
    )
    # A learner votes too if asked: the candidate may know of its promotion before it does itself.
    if may_vote and core.log.is_up_to_date(message.index, message.log_term):
        # A granted pre-vote carries the term that was asked for, or the candidate would take it for an old answer.
        core.send(Message(answer, to=message.sender, sender=core.id, term=message.term))
        if not pre_vote:
            core.election_began = core.now
            core.vote = message.sender
    else:
        refuse(core, answer, message.sender)


def refuse(core: Core, answer: MessageKind, candidate: int) -> None:
    """Say no to a candidate, and what is committed: it may need that to win."""
    commit = core.log.committed if core.config.commit_in_refusals else 0
    log_term = core.log.term(commit) if commit else 0
    assert log_term is not None, "the term of the last committed entry is always known"
    core.send(
        Message(answer, to=candidate, sender=core.id, term=core.term, commit=commit, log_term=log_term, reject=True)
    )


def _learn_commit(core: Core, message: Message) -> bool:
    """Take note of what a refusal says is committed. Whether a change of the configuration came to light."""
    if core.is_leader or not message.reject or not core.log.matches(message.commit, message.log_term):
        return False
    return core.log.commit_to(message.commit) and _has_unapplied_change(core)


def receive_vote(core: Core, message: Message) -> None:
    """Count an answer to this node's own candidacy. Answers to an earlier one do not count."""
    pre_vote = message.kind is MessageKind.PRE_VOTE_RESPONSE
    outdated = _learn_commit(core, message)
    if core.role is not (Role.PRE_CANDIDATE if pre_vote else Role.CANDIDATE):
        return
    if outdated:
        # Its voters are others than it thought. They are asked when the change is in force.
        core.become_follower(core.term, NO_NODE)
        return
    core.tracker.record_vote(message.sender, granted=not message.reject)
    result = core.tracker.vote_result()
    if result is VoteResult.LOST:
        core.become_follower(core.term, NO_NODE)
    elif result is VoteResult.WON and pre_vote:
        _ask_for_votes(core, transfer=False)
    elif result is VoteResult.WON:
        core.become_leader()
        broadcast_append(core)
