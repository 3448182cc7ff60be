"""Whether a message from outside is one that a correct peer may send: shape only, whatever this node's state is."""

from consensus.errors import MalformedMessage
from consensus.messages import APPEND, NODE_ID_MAX, Configuration, Message, MessageKind, Snapshot

_WITHOUT_TERM = frozenset({MessageKind.PROPOSE, MessageKind.TRANSFER_LEADER, MessageKind.READ_INDEX})
_WITHOUT_CONTENT = frozenset({MessageKind.APPEND_RESPONSE, MessageKind.HEARTBEAT, MessageKind.HEARTBEAT_RESPONSE})


def check_message(message: Message, *, receiver: int) -> None:
    """Let a well-formed message to `receiver` pass.

    Raises:
        MalformedMessage: no correct peer sends it.
    """
    kind, sender, term = message.kind, message.sender, message.term
    numbers = term | message.index | message.log_term | message.commit
    numbers |= message.hint | message.round | message.request
    # What is wrong, or nothing. The words are made only for a message that is: all others pass here too.
    fault = ""
    if message.to != receiver:
        fault = f"it is for node {message.to} and this is node {receiver}"
    elif not 1 <= sender <= NODE_ID_MAX:
        fault = f"its sender is {sender}, which is no node id"
    elif sender == receiver:
        fault = "it claims to come from this node itself"
    elif not 0 <= numbers <= NODE_ID_MAX:  # whose bits are all ones, so that what is larger than it has one beyond them
        fault = f"a number is out of range in {message}"
    elif (term == 0) != (kind in _WITHOUT_TERM):
        fault = f"its term is {term}"
    elif kind not in _WITHOUT_CONTENT:
        fault = _content_fault(message)
    if fault:
        raise MalformedMessage(f"a {kind.name} from node {sender} is malformed: {fault}")


# Each of these says what is wrong, or nothing.


def _content_fault(message: Message) -> str:
    if message.kind is APPEND:
        fault = _place_fault(message)
        return _entries_fault(message) if message.entries and not fault else fault
    match message.kind:
        case MessageKind.PROPOSE:
            return "" if message.entries else "it proposes nothing"
        case MessageKind.VOTE | MessageKind.PRE_VOTE:
            return _place_fault(message)
        case MessageKind.SNAPSHOT:
            return _snapshot_fault(message, message.snapshot) if message.snapshot is not None else "it has no snapshot"
        case _:
            return ""


def _place_fault(message: Message) -> str:
    index, log_term = message.index, message.log_term
    if (index == 0) == (log_term == 0) and log_term <= message.term:
        return ""
    return f"an entry at index {message.index} of term {message.log_term} cannot be in a log in term {message.term}"


def _entries_fault(message: Message) -> str:
    term = message.log_term
    for index, entry in enumerate(message.entries, start=message.index + 1):
        if entry.index != index:
            return f"entry {entry.index} is where {index} belongs"
        if entry.term < term or not 0 < entry.term <= message.term:
            return f"entry {index} has term {entry.term} after term {term} in a message of term {message.term}"
        term = entry.term
    return ""


def _snapshot_fault(message: Message, snapshot: Snapshot) -> str:
    if snapshot.index < 1 or not 1 <= snapshot.term <= message.term:
        return f"a snapshot of index {snapshot.index} and term {snapshot.term} cannot be"
    if not snapshot.configuration.voters:
        return "its configuration has no voters"
    return _configuration_fault(snapshot.configuration)


def _configuration_fault(configuration: Configuration) -> str:
    parts = (
        configuration.voters,
        configuration.voters_outgoing,
        configuration.learners,
        configuration.learners_next,
    )
    for part in parts:
        if tuple(sorted(set(part))) != part or not all(1 <= node <= NODE_ID_MAX for node in part):
            return f"{part} is no sorted set of node ids"
    voters = {*configuration.voters, *configuration.voters_outgoing}
    if voters.isdisjoint(configuration.learners) and set(configuration.learners_next) <= set(
        configuration.voters_outgoing
    ):
        return ""
    return "a node is voter and learner at once"
