"""Mistakes in Raft's asynchronous storage: what waits for which disk."""

from tests.mutants.catalogue.raft import _raft
from tests.mutants.mutant import Edit

_RAFT = "consensus/raft.py"
_ELECTION = "consensus/election.py"
_LOG = "consensus/log.py"


RAFT_THREADS = (
    _raft(
        "threads-vote-before-durable",
        "With asynchronous storage, a vote leaves before it is on disk.",
        Edit(
            _RAFT,
            "            done = self._append_done(snapshot)\n",
            "            early += tuple([one for one in after_sync if one.kind is MessageKind.VOTE_RESPONSE and one.to != core.id])\n"
            "            after_sync = tuple([one for one in after_sync if one not in early])\n"
            "            done = self._append_done(snapshot)\n",
        ),
        easy=True,
    ),
    _raft(
        "threads-acknowledged-before-durable",
        "With asynchronous storage, entries are acknowledged before they are on disk.",
        Edit(
            _RAFT,
            "            done = self._append_done(snapshot)\n",
            "            early += tuple([one for one in after_sync if one.kind is MessageKind.APPEND_RESPONSE and one.to != core.id])\n"
            "            after_sync = tuple([one for one in after_sync if one not in early])\n"
            "            done = self._append_done(snapshot)\n",
        ),
        easy=True,
    ),
    _raft(
        "threads-own-vote-before-durable",
        "With asynchronous storage, a candidate counts its own vote before it is on disk.",
        Edit(
            _ELECTION,
            "elif result is VoteResult.WON and core.id in core.tracker.votes:",
            "elif result is VoteResult.WON:",
        ),
        Edit(
            _ELECTION,
            "    core.tracker.record_vote(message.sender, granted=not message.reject)\n",
            "    core.tracker.record_vote(message.sender, granted=not message.reject)\n"
            "    core.tracker.record_vote(core.id, granted=True)\n",
        ),
    ),
    _raft(
        "threads-own-entries-before-durable",
        "With asynchronous storage, a leader counts its own copy of an entry when it hands it out.",
        Edit(
            _RAFT,
            "            done = self._append_done(snapshot)\n",
            "            for own in [one for one in after_sync if one.to == core.id]:\n"
            "                if own.kind is MessageKind.APPEND_RESPONSE:\n"
            "                    steps.step(core, own)\n"
            "            done = self._append_done(snapshot)\n",
        ),
    ),
    _raft(
        "threads-apply-before-durable",
        "With asynchronous storage, entries are handed out for application before they are on disk.",
        Edit(
            _LOG,
            "return self.committed if self._applies_unstable else min(self.committed, self.offset - 1)",
            "return self.committed",
        ),
        easy=True,
    ),
    _raft(
        "threads-votes-of-an-earlier-candidacy",
        "With asynchronous storage, votes are counted that were given to the log of an earlier life.",
        Edit(
            _ELECTION,
            "    if not pre_vote and message.request != core.candidacy:\n        return\n",
            "",
        ),
    ),
    _raft(
        "threads-responses-of-work-without-sync",
        "With asynchronous storage, answers of work that brings no entries do not wait for the work before it.",
        Edit(
            _RAFT,
            "            if hard_state or entries or snapshot or after_sync:\n",
            "            if not (hard_state or entries or snapshot):\n"
            "                early += tuple([one for one in after_sync if one.to != core.id])\n"
            "                after_sync = tuple([one for one in after_sync if one.to == core.id])\n"
            "            if hard_state or entries or snapshot or after_sync:\n",
        ),
    ),
    _raft(
        "threads-term-not-synced",
        "With asynchronous storage, a change of term or vote alone is written and not synced.",
        Edit(
            _RAFT,
            "append = StorageAppend(hard_state, entries, snapshot, must_sync, responses)",
            "append = StorageAppend(hard_state, entries, snapshot, bool(entries), responses)",
        ),
        easy=True,
    ),
)
