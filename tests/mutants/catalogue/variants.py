"""Mistakes of the kinds in the other modules, at other places: what somebody tries who has seen those."""

from tests.mutants.catalogue.agents import _LEDGER, _SERVICE, _agents
from tests.mutants.catalogue.partitions import _PRIMARY
from tests.mutants.catalogue.placement import _placement
from tests.mutants.catalogue.raft import _raft
from tests.mutants.catalogue.swim import _swim
from tests.mutants.mutant import Edit

_CALLER = "meshnode/agents/caller.py"
_VIEW = "meshnode/membership/view.py"


VARIANTS = (
    _raft(
        "vote-alone-not-synced",
        "A batch that changes the vote but not the term is not synced before the vote leaves.",
        Edit(
            "consensus/raft.py",
            "must_sync = promised or bool(entries)",
            "must_sync = core.term != hard.term or bool(entries)",
        ),
    ),
    _raft(
        "commit-index-not-written",
        "The commit index is written with term and vote alone: a restarted node may stand in an old configuration.",
        Edit(
            "consensus/raft.py",
            "is_written = not promised and log.committed == hard.commit",
            "is_written = not promised",
        ),
    ),
    _raft(
        "votes-survive-the-term",
        "Votes are not forgotten when a new term begins: those of the term before, or of the pre-vote, are counted.",
        Edit(
            "consensus/tracker.py",
            "        self.votes = {}\n        for node, old in self.progress.items():",
            "        for node, old in self.progress.items():",
        ),
    ),
    _raft(
        "transfer-skips-the-log-check",
        "A candidate to whom the leader hands over gets votes whatever its log has.",
        Edit(
            "consensus/election.py",
            "if may_vote and core.is_up_to_date(message.index, message.log_term):",
            "if may_vote and (message.transfer or core.is_up_to_date(message.index, message.log_term)):",
        ),
        Edit(
            "consensus/replication.py",
            "    if progress.match == core.log.last:\n        send_timeout_now(core, node)\n    else:",
            "    if progress.match:\n        send_timeout_now(core, node)\n    else:",
        ),
    ),
    _raft(
        "refusal-commits-what-may-differ",
        "A candidate takes the commit index of a refusal without comparing the entry there.",
        Edit(
            "consensus/election.py",
            "if core.is_leader or not message.reject or not core.log.matches(message.commit, message.log_term):",
            "if core.is_leader or not message.reject or message.commit > core.log.last:",
        ),
    ),
    _raft(
        "new-leader-forgets-the-pending-change",
        "A new leader takes a change although its log may hold one that is not applied.",
        Edit("consensus/core.py", "        self.pending_change = self.log.last\n        taken", "        taken"),
    ),
    _raft(
        "vote-lost-at-restart",
        "A restarted node does not take its vote from the log.",
        Edit("consensus/core.py", "        self.vote = hard_state.vote\n", "        self.vote = NO_NODE\n"),
    ),
    _swim(
        "refutes-without-raising",
        "A refutation has the incarnation of what it refutes.",
        Edit(
            _VIEW,
            "self._claim(replace(self.me, incarnation=rumour.incarnation + 1), now)",
            "self._claim(replace(self.me, incarnation=rumour.incarnation), now)",
        ),
        Edit(_VIEW, "        assert supersedes(me, self.me), (me, self.me)\n", ""),
    ),
    _swim(
        "timer-runs-on-after-death",
        "Only a refutation stops the timer of a suspicion: who has left meanwhile is declared dead all the same.",
        Edit(
            _VIEW,
            "        self.suspicions.stop(member.node_id)\n        if member",
            "        if member.state is State.ALIVE:\n            self.suspicions.stop(member.node_id)\n        if member",
        ),
        Edit(_VIEW, "            assert held.state is State.SUSPECT, held\n", ""),
    ),
    _swim(
        "the-departed-stay-departed",
        "A member that has left is not taken in again when it comes back.",
        Edit(
            _VIEW,
            "            if not supersedes(rumour, held):\n",
            "            if not supersedes(rumour, held) or held.state is State.LEFT:\n",
        ),
    ),
    _agents(
        "request-ids-lost-in-snapshots",
        "A snapshot of a partition has none of the request ids that users chose.",
        Edit(
            _LEDGER,
            "tuple((*request_id, until_s, reply) for request_id, (until_s, reply) in self.request_ids.items()),",
            "(),",
        ),
    ),
    _agents(
        "request-ids-forgotten-with-the-session",
        "When something expires, all request ids are forgotten.",
        Edit(
            _LEDGER,
            "self.request_ids = {key: kept for key, kept in self.request_ids.items() if kept[0] >= self.elapsed_s}",
            "self.request_ids = {}",
        ),
    ),
    _agents(
        "session-lowest-lost-in-snapshots",
        "A snapshot of a partition does not say which requests were answered and forgotten.",
        Edit(
            _LEDGER,
            "_SessionSnapshot(number, session.lowest, tuple(",
            "_SessionSnapshot(number, 1, tuple(",
        ),
    ),
    _agents(
        "passivated-before-commit",
        "An agent is let go of though its last record, of which only it knows, is not committed yet.",
        Edit(_SERVICE, "            and activation.recorded <= committed\n", ""),
    ),
    _agents(
        "passivation-forgets-requests",
        "The replies to an agent's request ids go when the agent is let go of.",
        Edit(
            _SERVICE,
            "        for agent_id in idle:\n            del serving.activations[agent_id]\n",
            "        for agent_id in idle:\n            del serving.activations[agent_id]\n"
            "            for known in [one for one in serving.ledger.request_ids if one[:2] == agent_id]:\n"
            "                del serving.ledger.request_ids[known]\n",
        ),
    ),
    _agents(
        "turns-survive-the-epoch",
        "A turn that was under way when the partition moved is recorded in the next epoch of this node.",
        Edit(
            "meshnode/agents/serving.py",
            "            if activation.turns is not None:\n                activation.turns.cancel()\n",
            "",
        ),
        Edit(
            _SERVICE,
            "        if self._serving.get(serving.partition) is not serving:\n            return  # deposed",
            "        if self._serving.get(serving.partition) is None:\n            return  # deposed",
        ),
    ),
    _agents(
        "activations-survive-the-epoch",
        "Agents in memory are kept for when their partition comes back to this node.",
        Edit(
            _SERVICE,
            "        serving = self._serving.pop(partition)\n",
            "        serving = self._left[partition] = self._serving.pop(partition)\n",
        ),
        Edit(
            _SERVICE,
            "        self._serving[partition] = Serving(partition, epoch, machine, self._host.now())\n",
            "        self._serving[partition] = Serving(partition, epoch, machine, self._host.now())\n"
            "        if partition in self._left:\n"
            "            for agent_id, activation in self._left.pop(partition).activations.items():\n"
            "                if activation.turns is None:\n"
            "                    activation.recorded = 0\n"
            "                    self._serving[partition].activations[agent_id] = activation\n",
        ),
        Edit(
            _SERVICE,
            "        self._last_token = 0\n\n",
            "        self._last_token = 0\n        self._left: dict[PartitionId, Serving] = {}\n\n",
        ),
    ),
    _agents(
        "errors-are-no-records",
        "An error that a turn ends with is answered at once, and not recorded.",
        Edit(
            _SERVICE,
            "        elif is_read_only:\n            self._answer_read",
            "        elif ended.reply.code:\n            self._finish(serving, request, recorded(0, ended.reply))\n"
            "        elif is_read_only:\n            self._answer_read",
        ),
    ),
    _agents(
        "caller-says-nothing-changed",
        "A caller whose link broke says that nothing was changed.",
        Edit(_CALLER, "                    attempts.may_have_run |= error.was_sent\n", ""),
    ),
    _agents(
        "caller-forgets-the-slow",
        "A caller says that it waits for nothing below its newest request.",
        Edit(
            _CALLER,
            "return await attempt(session.session, request, session.lowest())",
            "return await attempt(session.session, request, request)",
        ),
    ),
    _agents(
        "read-sees-what-is-recorded",
        "A read is answered when it is confirmed, whether or not what it saw is committed.",
        Edit(
            _PRIMARY,
            "self._reads.append((round_number, self._replica.log.last.sequence, token))",
            "self._reads.append((round_number, self._replica.committed, token))",
        ),
        worlds=("partitions",),
    ),
    _agents(
        "lease-unchecked",
        "Turns start without a lease.",
        Edit(_SERVICE, "if not self._primaries.holds_lease(serving.partition):", "if self._primaries is None:"),
    ),
    _agents(
        "error-keeps-the-state",
        "A turn that fails leaves in memory what it has changed.",
        Edit(
            "meshnode/agents/activation.py",
            "        if isinstance(ended, Postponed) or ended.reply.code:\n            self.agent = None\n",
            "",
        ),
    ),
    _placement(
        "weights-ignored",
        "Every member gets the same share.",
        Edit("meshnode/placement/share.py", "return Fraction(repr(weight))", "return Fraction(1)"),
        easy=False,
    ),
    _placement(
        "zones-ignored",
        "Replicas may all be in one zone.",
        Edit(
            "meshnode/metadata/allocator.py",
            "MemberSpec(float(record.weight), record.zone)",
            "MemberSpec(float(record.weight))",
        ),
        easy=False,
    ),
    _placement(
        "heirs-uneven",
        "The first living replica takes over, however much it leads already.",
        Edit(
            "meshnode/placement/takeover.py",
            "self._give(partition, min(living, key=self._price_of_one_more))",
            "self._give(partition, living[0])",
        ),
        Edit("meshnode/placement/takeover.py", "    while evening.relieve_all():\n        pass\n", ""),
        easy=False,
    ),
    _placement(
        "bounds-too-wide",
        "A node may hold one replica more than its share, rounded up.",
        Edit(
            "meshnode/placement/share.py",
            "tuple(ceil(share) for share in fair)",
            "tuple(ceil(share) + 1 for share in fair)",
        ),
        easy=False,
    ),
)
