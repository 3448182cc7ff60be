"""Mistakes in Raft's reads: read indexes by rounds, and leases (thesis 6.4)."""

from tests.mutants.catalogue.raft import _raft
from tests.mutants.mutant import Edit

_READS = "consensus/reads.py"
_ROUNDS = "consensus/rounds.py"
_CORE = "consensus/core.py"


RAFT_READS = (
    _raft(
        "read-without-a-round",
        "A leader answers a read without asking whether it still leads.",
        Edit(_READS, "    elif holds_lease(core):\n", "    elif True:\n"),
        easy=True,
    ),
    _raft(
        "read-confirmed-by-the-last-round",
        "A read is confirmed by answers to a round that was sent before it was asked.",
        Edit(
            _READS,
            "        broadcast_heartbeat(core)\n        core.rounds.waiting.append(WaitingRead(core.rounds.last,",
            "        core.rounds.waiting.append(WaitingRead(core.rounds.last,",
        ),
    ),
    _raft(
        "read-answers-of-any-round-counted",
        "A delayed answer to an older round counts for the present one.",
        Edit(
            _ROUNDS,
            "max(self._answered.get(node, 0), min(number, self.last))",
            "self.last",
        ),
    ),
    _raft(
        "read-confirmed-by-one",
        "One answer confirms a round, whatever the majority is.",
        Edit(
            _ROUNDS,
            "min(joint_committed_index(incoming, outgoing, answered), self.last)",
            "max([answered.get(node, 0) for node in incoming if node != own], default=self.last)",
        ),
    ),
    _raft(
        "read-before-the-first-commit",
        "A new leader serves reads before it has committed an entry of its term.",
        Edit(_READS, "    return core.log.matches(core.log.committed, core.term)\n", "    return True\n"),
    ),
    _raft(
        "read-put-off-at-the-old-index",
        "A read that was put off, or waits, is forgotten when the leader can answer it.",
        Edit(_READS, "        for node, request in put_off:\n            ask(core, node, request)\n", ""),
        Edit(
            _READS,
            "    for read in core.rounds.confirm(own=core.id, incoming=configuration.voters,"
            " outgoing=configuration.voters_outgoing):\n        _answer(core, read.node, read.request, read.index)\n",
            "    for read in core.rounds.confirm(own=core.id, incoming=configuration.voters,"
            " outgoing=configuration.voters_outgoing):\n        if read.node == core.id:\n"
            "            _answer(core, read.node, read.request, read.index)\n",
        ),
        invariants=("liveness",),
    ),
    _raft(
        "read-at-the-applied-index",
        "A read is answered at what the leader has applied, and not at what is committed.",
        Edit(
            _READS,
            "_answer(core, node, request, core.log.committed)",
            "_answer(core, node, request, core.log.applied)",
        ),
        Edit(
            _READS,
            "WaitingRead(core.rounds.last, core.log.committed, node, request)",
            "WaitingRead(core.rounds.last, core.log.applied, node, request)",
        ),
    ),
    _raft(
        "lease-without-clock-error",
        "A lease is as long as the election timeout, whatever the clocks do.",
        Edit(
            "consensus/config.py",
            "return self.election_timeout_s * (1 - self.clock_error_max) / (1 + self.clock_error_max)",
            "return self.election_timeout_s",
        ),
    ),
    _raft(
        "lease-from-the-answer",
        "A lease begins when a quorum has answered, and not when the round was sent.",
        Edit(
            _READS,
            "    core.rounds.answered(message.sender, message.round)\n    confirm(core)\n",
            "    core.rounds.answered(message.sender, message.round)\n"
            "    before = core.rounds.confirmed\n    confirm(core)\n"
            "    if core.rounds.confirmed > before:\n        core.rounds.confirmed_s = core.now\n",
        ),
    ),
    _raft(
        "lease-never-ends",
        "Who was confirmed once in its term has a lease.",
        Edit(_READS, "    return core.now - since_s < core.config.lease_s\n", "    return True\n"),
    ),
    _raft(
        "lease-after-a-transfer",
        "A leader that has asked another one to take over, in spite of all leases, keeps its own.",
        Edit(
            _READS,
            "if not core.config.lease_reads or core.asked_to_take_over or since_s is None:",
            "if not core.config.lease_reads or since_s is None:",
        ),
    ),
    _raft(
        "lease-forgotten-by-a-restart",
        "A node that has just started grants its vote, though it may have promised not to.",
        Edit(
            _CORE,
            "self.heard_leader = now if hard_state.term or config.async_storage else -math.inf",
            "self.heard_leader = -math.inf",
        ),
    ),
    _raft(
        "lease-not-granted",
        "A node that hears of a leader grants its vote to another one, before the lease is over.",
        Edit(
            _CORE,
            "return self.config.lease_reads and self.now - self.heard_leader < self.config.election_timeout_s",
            "return self.config.lease_reads and self.now - self.heard_leader < self.config.election_timeout_s / 2",
        ),
        Edit(
            _CORE,
            "        return self.now - self.election_began < self.config.election_timeout_s\n",
            "        return self.now - self.election_began < self.config.election_timeout_s / 2\n",
        ),
    ),
)
