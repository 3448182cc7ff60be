"""The configuration in force, each member's progress, and the votes of an election."""

from collections.abc import Callable

from consensus.messages import Configuration
from consensus.progress import Inflights, Progress
from consensus.quorum import VoteResult, committed_index, joint_committed_index, joint_vote_result
from consensus.reconfiguration import Reconfiguration


class Tracker:
    """What a node keeps of its peers. The progress of others means something on a leader only.

    Attributes:
        configuration: the configuration in force.
        progress: each member's progress, the node's own included, in the order of their ids.
        votes: who answered the election under way, and whether with yes.
    """

    __slots__ = ("_window", "configuration", "progress", "votes")

    def __init__(self, window: Callable[[], Inflights]) -> None:
        self._window = window
        self.configuration = Configuration()
        self.progress: dict[int, Progress] = {}
        self.votes: dict[int, bool] = {}

    def switch(self, to: Reconfiguration, *, last_index: int) -> None:
        """Put a configuration in force. A node that is new to it is probed from `last_index` on."""
        configuration = to.configuration
        learners = set(configuration.learners)
        progress: dict[int, Progress] = {}
        for node in configuration.members:
            known = None if node in to.forgotten else self.progress.get(node)
            if known is None:
                known = self._fresh(node in learners, match=0, next_index=max(last_index, 1))
                # Else the leader's next check of its quorum would count the newcomer as dead before it could answer.
                known.recent_active = True
            known.is_learner = node in learners
            progress[node] = known
        self.configuration = configuration
        self.progress = progress

    def reset(self, *, own: int, last_index: int) -> None:
        """A new term begins: nothing is known of anyone but the node itself."""
        self.votes = {}
        for node, old in self.progress.items():
            match = last_index if node == own else 0
            self.progress[node] = self._fresh(old.is_learner, match=match, next_index=last_index + 1)

    def _fresh(self, is_learner: bool, *, match: int, next_index: int) -> Progress:
        return Progress(match=match, next_index=next_index, is_learner=is_learner, inflights=self._window())

    def record_vote(self, node: int, *, granted: bool) -> None:
        """Take the first answer of a node. A later one changes nothing: it may be a duplicate."""
        self.votes.setdefault(node, granted)

    def vote_result(self) -> VoteResult:
        """The state of the election under way."""
        configuration = self.configuration
        return joint_vote_result(configuration.voters, configuration.voters_outgoing, self.votes)

    def committed_index(self) -> int:
        """The highest index that is on the disks of a quorum."""
        configuration = self.configuration
        acknowledged = {node: progress.match for node, progress in self.progress.items()}
        if not configuration.voters_outgoing:
            return committed_index(configuration.voters, acknowledged)
        return joint_committed_index(configuration.voters, configuration.voters_outgoing, acknowledged)

    def quorum_is_active(self) -> bool:
        """Whether a quorum, the leader included, was heard of since the leader last looked."""
        configuration = self.configuration
        active = {node: progress.recent_active for node, progress in self.progress.items() if not progress.is_learner}
        result = joint_vote_result(configuration.voters, configuration.voters_outgoing, active)
        return result is VoteResult.WON
