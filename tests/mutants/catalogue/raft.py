"""Mistakes in Raft's core."""

from tests.mutants.mutant import Edit, Mutant


def _raft(name: str, wrong: str, *edits: Edit, easy: bool = False, invariants: tuple[str, ...] = ()) -> Mutant:
    return Mutant(
        name=f"raft-{name}",
        wrong=wrong,
        edits=edits,
        worlds=("raft",),
        invariants=("raft-*", *invariants),
        is_easy=easy,
    )


RAFT = (
    _raft(
        "old-term-committed-by-counting",
        "A leader commits an entry of an earlier term because a majority has it (paper 5.4.2, figure 8).",
        Edit(
            "consensus/core.py",
            "return index > self.log.committed and self.log.matches(index, self.term) and self.log.commit_to(index)",
            "return index > self.log.committed and self.log.commit_to(index)",
        ),
        easy=True,
    ),
    _raft(
        "vote-not-persisted",
        "The vote is not part of what is written, so a restarted node may vote again in the same term.",
        Edit(
            "consensus/core.py",
            "return HardState(self.term, self.vote, self.log.committed)",
            "return HardState(self.term, NO_NODE, self.log.committed)",
        ),
    ),
    _raft(
        "vote-sent-before-sync",
        "A vote leaves before it is on disk.",
        Edit(
            "consensus/raft.py",
            "                late = early + late\n                early = ()\n",
            "                both = early + late\n"
            "                early = tuple([one for one in both if one.kind is MessageKind.VOTE_RESPONSE])\n"
            "                late = tuple([one for one in both if one.kind is not MessageKind.VOTE_RESPONSE])\n",
        ),
        easy=True,
    ),
    _raft(
        "term-named-before-sync",
        "Messages of a new term leave before the term is on disk.",
        Edit(
            "consensus/raft.py",
            "            if promised:\n                late = early + late\n                early = ()\n",
            "",
        ),
    ),
    _raft(
        "term-not-synced",
        "A batch that changes term or vote alone is not synced before its messages leave.",
        Edit("consensus/raft.py", "must_sync = promised or bool(entries)", "must_sync = bool(entries)"),
        easy=True,
    ),
    _raft(
        "acknowledged-before-sync",
        "A follower acknowledges entries that its disk is still writing.",
        Edit(
            "consensus/raft.py",
            "                late = early + late\n                early = ()\n",
            "                late = early + late\n                early = ()\n"
            "            else:\n                early, late = early + late, ()\n",
        ),
        easy=True,
    ),
    _raft(
        "leader-counts-itself-before-sync",
        "A leader counts its own copy of an entry when it appends it, not when it is on its disk (thesis 10.2.1).",
        Edit(
            "consensus/core.py",
            "        self.log.append(entries)\n",
            "        self.log.append(entries)\n        self.tracker.progress[self.id].acknowledge(entries[-1].index)\n",
        ),
        invariants=("liveness",),
    ),
    _raft(
        "votes-for-shorter-logs",
        "A vote is given whatever the candidate's log has (paper 5.4.1).",
        Edit("consensus/log.py", "return term > own or (term == own and index >= self.last)", "return True"),
        easy=True,
    ),
    _raft(
        "votes-by-length-alone",
        "Of two logs the longer one counts as newer, whatever the terms at their ends are.",
        Edit(
            "consensus/log.py",
            "return term > own or (term == own and index >= self.last)",
            "return index >= self.last",
        ),
    ),
    _raft(
        "votes-by-term-alone",
        "Of two logs that end in the same term the shorter one passes as well.",
        Edit(
            "consensus/log.py",
            "return term > own or (term == own and index >= self.last)",
            "return term >= own",
        ),
    ),
    _raft(
        "votes-twice-in-a-term",
        "A node that has voted gives its vote to another candidate of the same term too.",
        Edit(
            "consensus/election.py",
            "or (core.vote == NO_NODE and core.leader == NO_NODE)",
            "or core.leader == NO_NODE",
        ),
        easy=True,
    ),
    _raft(
        "commit-past-the-verified-prefix",
        "A follower takes the leader's commit index for its own log's, beyond what the append has compared.",
        Edit(
            "consensus/following.py",
            "log.commit_to(min(message.commit, last_new))",
            "log.commit_to(min(message.commit, log.last))",
        ),
    ),
    _raft(
        "heartbeat-commits-what-may-differ",
        "A heartbeat carries the commit index even to a follower that is not known to have so much.",
        Edit(
            "consensus/replication.py",
            "commit = min(progress.match, core.log.committed)",
            "commit = core.log.committed",
        ),
        Edit(
            "consensus/following.py",
            "    if message.commit <= core.log.last:\n        core.log.commit_to(message.commit)\n",
            "    if message.commit:\n        core.log.commit_to(min(message.commit, core.log.last))\n",
        ),
        easy=True,
    ),
    _raft(
        "stale-answers-counted",
        "Answers of an earlier term are counted in this one.",
        Edit(
            "consensus/steps.py",
            "    if message.term < core.term:\n        _answer_old_term(core, message)",
            "    answers = (MessageKind.APPEND_RESPONSE, MessageKind.HEARTBEAT_RESPONSE, MessageKind.VOTE_RESPONSE)\n"
            "    if message.term < core.term and message.kind in answers:\n"
            "        return True\n"
            "    if message.term < core.term:\n"
            "        _answer_old_term(core, message)",
        ),
    ),
    _raft(
        "duplicate-append-truncates",
        "An append that arrives late or twice cuts off what was appended after it.",
        Edit(
            "consensus/following.py",
            "conflict = log.first_conflict(message.entries)",
            "conflict = 0 if message.entries else None",
        ),
    ),
    _raft(
        "append-without-previous",
        "A follower takes entries without comparing the one before them.",
        Edit(
            "consensus/following.py",
            "if not log.matches(message.index, message.log_term):",
            "if message.index > log.last:",
        ),
    ),
    _raft(
        "match-assumed-at-elections",
        "A new leader takes for granted that its followers have what it has.",
        Edit(
            "consensus/tracker.py",
            "match = last_index if node == own else 0",
            "match = last_index",
        ),
    ),
    _raft(
        "half-is-a-majority",
        "Half of the voters decide.",
        Edit("consensus/quorum.py", "return voters // 2 + 1", "return (voters + 1) // 2"),
    ),
    _raft(
        "even-quorum-off-by-one",
        "Among an even number of voters, the commit index is that of one half.",
        Edit(
            "consensus/quorum.py",
            "return indexes[len(indexes) - majority(len(indexes))]",
            "return indexes[len(indexes) // 2]",
        ),
    ),
    _raft(
        "pre-vote-elects",
        "Who would be elected leads at once, in a term that nobody voted in (thesis 9.6).",
        Edit(
            "consensus/election.py",
            "    elif result is VoteResult.WON and pre_vote:\n        _ask_for_votes(core, transfer=False)\n",
            "",
        ),
        easy=True,
    ),
    _raft(
        "pre-vote-counts-as-vote",
        "A late answer to the pre-vote is counted in the election that follows it.",
        Edit(
            "consensus/election.py",
            "if core.role is not (Role.PRE_CANDIDATE if pre_vote else Role.CANDIDATE):",
            "if core.role not in (Role.PRE_CANDIDATE, Role.CANDIDATE):",
        ),
    ),
    _raft(
        "joint-commit-by-the-new-half",
        "In a joint configuration the incoming voters commit alone (thesis 4.3).",
        Edit(
            "consensus/quorum.py",
            "return min(committed_index(incoming, acknowledged), committed_index(outgoing, acknowledged))",
            "return committed_index(incoming, acknowledged)",
        ),
    ),
    _raft(
        "joint-commit-by-the-old-half",
        "In a joint configuration the outgoing voters commit alone.",
        Edit(
            "consensus/quorum.py",
            "return min(committed_index(incoming, acknowledged), committed_index(outgoing, acknowledged))",
            "return committed_index(outgoing or incoming, acknowledged)",
        ),
    ),
    _raft(
        "joint-election-by-the-new-half",
        "In a joint configuration the incoming voters elect alone.",
        Edit(
            "consensus/quorum.py",
            "results = (vote_result(incoming, votes), vote_result(outgoing, votes))",
            "results = (vote_result(incoming, votes),)",
        ),
    ),
    _raft(
        "learners-counted",
        "What a learner has counts towards the commit index.",
        Edit(
            "consensus/tracker.py",
            "return joint_committed_index(configuration.voters, configuration.voters_outgoing, acknowledged)",
            "return joint_committed_index(configuration.members, configuration.voters_outgoing, acknowledged)",
        ),
        Edit(
            "consensus/tracker.py",
            "return committed_index(configuration.voters, acknowledged)",
            "return committed_index(configuration.members, acknowledged)",
        ),
    ),
    _raft(
        "two-changes-at-once",
        "A leader takes a change of the configuration while an earlier one is not applied (thesis 4.1).",
        Edit("consensus/replication.py", "if latest > core.log.applied:", "if latest > core.log.last:"),
    ),
    _raft(
        "several-voters-in-one-step",
        "A simple change may touch several voters at once, so that majorities before and after need not meet.",
        Edit(
            "consensus/reconfiguration.py",
            "if len(draft.voters ^ set(configuration.voters)) > 1:",
            "if len(draft.voters ^ set(configuration.voters)) > 9:",
        ),
        Edit(
            "consensus/reconfiguration.py",
            "if change.transition is not Transition.AUTO or len(change.changes) > 1:",
            "if change.transition is not Transition.AUTO:",
        ),
        invariants=("liveness",),
    ),
    _raft(
        "stored-whatever-the-term",
        "Entries that were replaced while they were being written count as stored when the write is done.",
        Edit(
            "consensus/log.py",
            "if index < self.offset or not self.matches(index, term):",
            "if index < self.offset or index > self.last:",
        ),
    ),
    _raft(
        "replaced-entries-not-written",
        "Entries that take the place of others already handed to the disk are not handed to it themselves.",
        Edit("consensus/log.py", "            self._handed_out = min(self._handed_out, first - self.offset)\n", ""),
    ),
    _raft(
        "removed-leader-stays",
        "A leader that has applied its own removal goes on leading, with a quorum that it is not part of.",
        Edit(
            "consensus/raft.py",
            "            if core.config.step_down_on_removal:\n                core.become_follower(core.term, NO_NODE)\n",
            "            if False:\n                pass\n",
        ),
        invariants=("liveness",),
    ),
    _raft(
        "lost-appends-not-repeated",
        "A heartbeat's answer does not make the leader send again what was lost.",
        Edit(
            "consensus/replication.py",
            "    progress.paused = False\n    if progress.match < core.log.last or progress.state is PROBE:\n"
            "        send_append(core, message.sender)\n",
            "",
        ),
        invariants=("liveness",),
    ),
)
