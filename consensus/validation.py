"""Whether a message from outside is one that a correct peer may send: shape only, whatever this node's state is."""

from consensus.errors import MalformedMessage
from consensus.messages import NODE_ID_MAX, Configuration, Message, MessageKind, Snapshot

_WITHOUT_TERM = frozenset({MessageKind.PROPOSE, MessageKind.TRANSFER_LEADER})


def check_message(message: Message, *, receiver: int) -> None:
    """Let a well-formed message to `receiver` pass.

    Raises:
        MalformedMessage: no correct peer sends it.
    """
    _require(message.to == receiver, message, f"it is for node {message.to} and this is node {receiver}")
    _require(1 <= message.sender <= NODE_ID_MAX, message, f"its sender is {message.sender}, which is no node id")
    _require(message.sender != receiver, message, "it claims to come from this node itself")
    numbers = (message.term, message.index, message.log_term, message.commit, message.hint)
    _require(all(0 <= number <= NODE_ID_MAX for number in numbers), message, f"a number is out of range in {numbers}")
    _require((message.term == 0) == (message.kind in _WITHOUT_TERM), message, f"its term is {message.term}")
    match message.kind:
        case MessageKind.PROPOSE:
            _require(bool(message.entries), message, "it proposes nothing")
        case MessageKind.APPEND:
            _check_place(message)
            _check_entries(message)
        case MessageKind.VOTE | MessageKind.PRE_VOTE:
            _check_place(message)
        case MessageKind.SNAPSHOT:
            _require(message.snapshot is not None, message, "it has no snapshot")
            assert message.snapshot is not None
            _check_snapshot(message, message.snapshot)
        case _:
            pass


def _check_place(message: Message) -> None:
    _require(
        (message.index == 0) == (message.log_term == 0) and message.log_term <= message.term,
        message,
        f"an entry at index {message.index} of term {message.log_term} cannot be in a log in term {message.term}",
    )


def _check_entries(message: Message) -> None:
    term = message.log_term
    for index, entry in enumerate(message.entries, start=message.index + 1):
        _require(entry.index == index, message, f"entry {entry.index} is where {index} belongs")
        _require(
            max(term, 1) <= entry.term <= message.term,
            message,
            f"entry {index} has term {entry.term} after term {term} in a message of term {message.term}",
        )
        term = entry.term


def _check_snapshot(message: Message, snapshot: Snapshot) -> None:
    _require(
        snapshot.index >= 1 and 1 <= snapshot.term <= message.term,
        message,
        f"a snapshot of index {snapshot.index} and term {snapshot.term} cannot be",
    )
    _require(bool(snapshot.configuration.voters), message, "its configuration has no voters")
    _check_configuration(message, snapshot.configuration)


def _check_configuration(message: Message, configuration: Configuration) -> None:
    parts = (
        configuration.voters,
        configuration.voters_outgoing,
        configuration.learners,
        configuration.learners_next,
    )
    for part in parts:
        sound = tuple(sorted(set(part))) == part and all(1 <= node <= NODE_ID_MAX for node in part)
        _require(sound, message, f"{part} is no sorted set of node ids")
    voters = {*configuration.voters, *configuration.voters_outgoing}
    sound = voters.isdisjoint(configuration.learners) and set(configuration.learners_next) <= set(
        configuration.voters_outgoing
    )
    _require(sound, message, "a node is voter and learner at once")


def _require(condition: bool, message: Message, reason: str) -> None:
    if not condition:
        raise MalformedMessage(f"a {message.kind.name} from node {message.sender} is malformed: {reason}")
