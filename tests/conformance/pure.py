"""Scripts that drive pure functions: quorums, and changes of a configuration."""

from consensus.errors import ConfigurationRefused
from consensus.messages import Configuration
from consensus.progress import Inflights
from consensus.quorum import EVERYTHING, VoteResult, joint_committed_index, joint_vote_result
from consensus.reconfiguration import Reconfiguration, enter_joint, leave_joint, simple
from consensus.tracker import Tracker
from tests.conformance.describe import (
    REFUSALS,
    commit_chart,
    configuration_text,
    parse_changes,
    progress_map_text,
)
from tests.conformance.script import Directive, UnsupportedError

VOTE_RESULTS = {VoteResult.WON: "VoteWon", VoteResult.LOST: "VoteLost", VoteResult.PENDING: "VotePending"}


class QuorumScript:
    """Each directive stands alone."""

    def run(self, directive: Directive) -> str:
        voters = directive.numbers("cfg")
        joint = directive.text("cfgj", "zero")
        outgoing = [] if joint == "zero" else directive.numbers("cfgj")
        everyone = list(dict.fromkeys([*voters, *outgoing]))
        match directive.command:
            case "committed":
                given = zip(everyone, directive.items("idx"), strict=True)
                acknowledged = {voter: int(index) for voter, index in given if index != "_"}
                index = joint_committed_index(voters, outgoing, acknowledged)
                assert index == joint_committed_index(outgoing, voters, acknowledged)
                return commit_chart(everyone, acknowledged) + ("∞" if index == EVERYTHING else str(index))
            case "vote":
                answers = zip(everyone, directive.items("votes"), strict=True)
                votes = {voter: answer == "y" for voter, answer in answers if answer != "_"}
                result = joint_vote_result(voters, outgoing, votes)
                assert result is joint_vote_result(outgoing, voters, votes)
                return VOTE_RESULTS[result]
            case other:
                raise UnsupportedError(f"directive {other} not supported yet")


class ConfigurationScript:
    """One configuration that changes from directive to directive. The log grows by an entry with each of them."""

    def __init__(self) -> None:
        self.tracker = Tracker(lambda: Inflights(messages_max=10, bytes_max=1 << 20))
        self.last_index = 0

    def run(self, directive: Directive) -> str:
        try:
            outcome = self.change(directive)
        except ConfigurationRefused as refused:
            return REFUSALS[refused.refusal]
        else:
            self.tracker.switch(outcome, last_index=self.last_index)
        finally:
            self.last_index += 1
        text = configuration_text(self.tracker.configuration)
        return text + "\n" + progress_map_text(self.tracker.progress)

    def change(self, directive: Directive) -> Reconfiguration:
        present: Configuration = self.tracker.configuration
        changes = parse_changes(directive.input)
        match directive.command:
            case "simple":
                return simple(present, changes)
            case "enter-joint":
                return enter_joint(present, changes, auto_leave=directive.flag("autoleave"))
            case "leave-joint":
                return leave_joint(present)
            case other:
                raise UnsupportedError(f"directive {other} not supported yet")
