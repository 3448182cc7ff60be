"""Mistakes in who votes in the Raft group, and in what nodes outside of it are told."""

from tests.mutants.mutant import Edit, Mutant

_VOTERS = "meshnode/metadata/voters.py"
_GROUP = "meshnode/metadata/group.py"
_HISTORY = "meshnode/metadata/history.py"
_FEEDING = "meshnode/metadata/feeding.py"
_FOLLOWING = "meshnode/metadata/following.py"


def _group(name: str, wrong: str, *edits: Edit, easy: bool = False, invariants: tuple[str, ...]) -> Mutant:
    return Mutant(name=f"group-{name}", wrong=wrong, edits=edits, invariants=invariants, is_easy=easy)


GROUP = (
    _group(
        "gone-voter-kept",
        "A voter that is gone is never replaced.",
        Edit(
            _VOTERS,
            "peer.is_live or peer.for_s < self._config.replacement_delay_s",
            "peer.is_live or peer.for_s >= 0.0",
        ),
        invariants=("liveness*",),
    ),
    _group(
        "leaving-voter-let-go",
        "A node that leaves is let go while its vote is needed.",
        Edit(
            "meshnode/metadata/leadership.py",
            "        holding.update(map(NodeId, self._group.status.configuration.electorate))\n",
            "",
        ),
        invariants=("liveness*", "group-*"),
    ),
    _group(
        "surplus-kept",
        "There may be more voters than are wanted, and an even number, as when nodes have left.",
        Edit(_VOTERS, "        if not is_surplus and not is_even:\n", "        if is_surplus or is_even:\n"),
        invariants=("liveness*",),
    ),
    _group(
        "leader-leaves-without-handing-over",
        "A leader that wants to leave does not hand over, and so is never let go.",
        Edit(
            _VOTERS,
            "        if self._is_staying(self._leader):\n            return None\n",
            "        if self._is_staying(self._leader) or len(self._voters) > 1:\n            return None\n",
        ),
        invariants=("liveness*",),
    ),
    _group(
        "command-carried-out-twice",
        "What came from another node before is carried out again when it comes in the node's own log.",
        Edit(_HISTORY, "        if index <= self.position:\n", "        if index < 0:\n"),
        invariants=("raft-*", "liveness*"),
        easy=True,
    ),
    _group(
        "position-before-the-command",
        "A node that follows skips the first command of what it is sent.",
        Edit(_FOLLOWING, "for index, data in message.commands:", "for index, data in message.commands[1:]:"),
        invariants=("raft-*", "liveness*", "partitions-*"),
        easy=True,
    ),
    _group(
        "told-for-ever",
        "A node that was taken out of the group waits for the group to tell it on.",
        Edit(
            _GROUP,
            "return self.is_leader or self._host.now() < self._heard_at_s + self._hearing_s",
            "return self.is_leader or bool(self._raft.leader)",
        ),
        invariants=("liveness*",),
    ),
    _group(
        "silent-source-kept",
        "A node goes on following one that says nothing.",
        Edit(
            _FOLLOWING,
            "return min(self._heard_at_s + SILENT_S, self._led_at_s + LEADERLESS_S)",
            "return self._heard_at_s + 1000 * SILENT_S",
        ),
        invariants=("liveness*",),
    ),
    _group(
        "followers-are-not-told-of-a-new-leader",
        "News without commands are sent with the next commands only.",
        Edit(
            _FEEDING,
            "if position <= follower.sent and news == follower.told and now < follower.told_at_s + BEAT_S:",
            "if position <= follower.sent and follower.told is not None:",
        ),
        invariants=("liveness*",),
    ),
)
