"""Elections: standing, voting, counting (Raft paper 5.2 and 5.4.1; thesis 9.6 for the pre-vote, 3.10 for transfers).

With asynchronous storage a candidate asks for votes before its own disk has its term, and the log that it shows. If it
crashes then, it may stand in the same term again, with a shorter log. So it leads only once its own vote is on disk: no
two lives lead one term. And it counts only answers that repeat the number of its candidacy: votes that were given to
the longer log of an earlier life are not for this one.
"""

from typing import Final

from consensus.core import Core
from consensus.messages import NO_NODE, EntryKind, Message, MessageKind, Role
from consensus.quorum import VoteResult
from consensus.replication import broadcast_append

_ANSWERS: Final = {
    MessageKind.VOTE: MessageKind.VOTE_RESPONSE,
    MessageKind.PRE_VOTE: MessageKind.PRE_VOTE_RESPONSE,
}


def stand(core: Core, *, transfer: bool = False) -> None:
    """Stand for election, or ask whether it would be worth it. Without effect where that is not allowed.

    Args:
        transfer: the leader asked for it: skip the pre-vote, and let voters ignore their lease.
    """
    if core.is_leader or not core.is_promotable or _has_unapplied_change(core):
        return
    if core.is_promised and not transfer:
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
        if not entries or any(entry.kind is not EntryKind.NORMAL for entry in entries):
            return True  # there is one, or there may be one in what can't be read
        index = entries[-1].index + 1
    return False


def _ask_for_pre_votes(core: Core) -> None:
    core.become_pre_candidate()
    _ask(core, MessageKind.PRE_VOTE, term=core.term + 1)


def _ask_for_votes(core: Core, *, transfer: bool) -> None:
    core.become_candidate()
    _ask(core, MessageKind.VOTE, term=core.term, transfer=transfer, request=core.candidacy)


def _ask(core: Core, kind: MessageKind, *, term: int, transfer: bool = False, request: int = 0) -> None:
    index, log_term = core.log.last, core.log.last_term()
    for node in core.tracker.configuration.electorate:
        question = Message(
            kind,
            to=node,
            sender=core.id,
            term=term,
            index=index,
            log_term=log_term,
            transfer=transfer,
            request=request,
        )
        if node == core.id:
            # Its own vote counts once it is on disk, as anyone's does.
            _grant(core, question)
        else:
            core.send(question)


def _grant(core: Core, question: Message) -> None:
    """Say yes. A granted pre-vote carries the term that was asked for, or it would be taken for an old answer."""
    core.send(
        Message(
            _ANSWERS[question.kind],
            to=question.sender,
            sender=core.id,
            term=question.term,
            request=question.request,
        )
    )


def receive_vote_request(core: Core, message: Message) -> None:
    """Answer a candidate or pre-candidate whose term is at least this node's."""
    pre_vote = message.kind is MessageKind.PRE_VOTE
    if core.is_promised and not (pre_vote or message.transfer or core.vote == message.sender):
        # Also in its own term, to which it may have been brought by an answer: the lease is of an earlier one.
        return
    may_vote = (
        core.vote == message.sender
        or (core.vote == NO_NODE and core.leader == NO_NODE)
        or (pre_vote and message.term > core.term)
    )
    # A learner votes too if asked: the candidate may know of its promotion before it does itself.
    if may_vote and core.is_up_to_date(message.index, message.log_term):
        _grant(core, message)
        if not pre_vote:
            core.election_began = core.now
            core.vote = message.sender
    else:
        refuse(core, message)


def refuse(core: Core, question: Message) -> None:
    """Say no to a candidate, and what is committed: it may need that to win."""
    commit = core.log.committed if core.config.commit_in_refusals else 0
    log_term = core.log.term(commit) if commit else 0
    assert log_term is not None, "the term of the last committed entry is always known"
    core.send(
        Message(
            _ANSWERS[question.kind],
            to=question.sender,
            sender=core.id,
            term=core.term,
            commit=commit,
            log_term=log_term,
            reject=True,
            request=question.request,
        )
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
    if outdated and core.role is not Role.FOLLOWER:
        # Its voters are others than it thought. They are asked when the change is in force.
        core.become_follower(core.term, NO_NODE)
        return
    if core.role is not (Role.PRE_CANDIDATE if pre_vote else Role.CANDIDATE):
        return
    if not pre_vote and message.request != core.candidacy:
        return
    core.tracker.record_vote(message.sender, granted=not message.reject)
    result = core.tracker.vote_result()
    if result is VoteResult.LOST:
        core.become_follower(core.term, NO_NODE)
    elif result is VoteResult.WON and pre_vote:
        _ask_for_votes(core, transfer=False)
    elif result is VoteResult.WON and core.id in core.tracker.votes:
        core.become_leader()
        broadcast_append(core)
