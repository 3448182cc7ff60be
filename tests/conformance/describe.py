"""How the scripts print a core's parts."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from consensus.errors import ConsensusError, Overloaded, ProposalDropped, Refusal, UnknownPeer
from consensus.messages import (
    ChangeKind,
    ConfChange,
    ConfChangeSet,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    Role,
    Snapshot,
)
from consensus.progress import Progress, ProgressState
from consensus.ready import Appended, Ready, StorageAppend, StorageApply
from consensus.reconfiguration import decode_change

ENTRY_KINDS = {
    EntryKind.NORMAL: "EntryNormal",
    EntryKind.CHANGE: "EntryConfChange",
    EntryKind.CHANGE_SET: "EntryConfChangeV2",
}
MESSAGE_KINDS = {
    MessageKind.PROPOSE: "MsgProp",
    MessageKind.APPEND: "MsgApp",
    MessageKind.APPEND_RESPONSE: "MsgAppResp",
    MessageKind.VOTE: "MsgVote",
    MessageKind.VOTE_RESPONSE: "MsgVoteResp",
    MessageKind.PRE_VOTE: "MsgPreVote",
    MessageKind.PRE_VOTE_RESPONSE: "MsgPreVoteResp",
    MessageKind.HEARTBEAT: "MsgHeartbeat",
    MessageKind.HEARTBEAT_RESPONSE: "MsgHeartbeatResp",
    MessageKind.SNAPSHOT: "MsgSnap",
    MessageKind.TRANSFER_LEADER: "MsgTransferLeader",
    MessageKind.TIMEOUT_NOW: "MsgTimeoutNow",
}
ROLES = {
    Role.FOLLOWER: "StateFollower",
    Role.PRE_CANDIDATE: "StatePreCandidate",
    Role.CANDIDATE: "StateCandidate",
    Role.LEADER: "StateLeader",
}
PROGRESS_STATES = {
    ProgressState.PROBE: "StateProbe",
    ProgressState.REPLICATE: "StateReplicate",
    ProgressState.SNAPSHOT: "StateSnapshot",
}
CHANGE_LETTERS = {"v": ChangeKind.ADD_VOTER, "l": ChangeKind.ADD_LEARNER, "r": ChangeKind.REMOVE, "u": ChangeKind.TOUCH}
REFUSALS = {
    Refusal.ALREADY_JOINT: "config is already joint",
    Refusal.JOINT: "can't apply simple config change in joint config",
    Refusal.NOT_JOINT: "can't leave a non-joint config",
    Refusal.NO_VOTERS: "can't make a zero-voter config joint",
    Refusal.REMOVES_ALL_VOTERS: "removed all voters",
    Refusal.SEVERAL_VOTERS: "more than one voter changed without entering joint config",
}


def parse_changes(lines: Sequence[str]) -> tuple[ConfChange, ...]:
    """Read changes such as ``v1 l2 r3 u4``."""
    words = " ".join(lines).split()
    return tuple(ConfChange(CHANGE_LETTERS[word[0]], int(word[1:])) for word in words)


def changes_text(change: ConfChange | ConfChangeSet) -> str:
    letters = {kind: letter for letter, kind in CHANGE_LETTERS.items()}
    changes = (change,) if isinstance(change, ConfChange) else change.changes
    return " ".join(f"{letters[one.kind]}{one.node}" for one in changes)


def quoted(data: bytes) -> str:
    """As Go's %q prints it."""
    named = {0x07: r"\a", 0x08: r"\b", 0x09: r"\t", 0x0A: r"\n", 0x0B: r"\v", 0x0C: r"\f", 0x0D: r"\r"}
    named |= {0x22: r"\"", 0x5C: r"\\"}
    text = data.decode("utf-8", errors="surrogateescape")
    shown = [named.get(ord(c)) or (c if c.isprintable() else f"\\x{ord(c) & 0xFF:02x}") for c in text]
    return '"' + "".join(shown) + '"'


def entry_text(entry: Entry) -> str:
    head = f"{entry.term}/{entry.index} {ENTRY_KINDS[entry.kind]}"
    body = quoted(entry.data) if entry.kind is EntryKind.NORMAL else changes_text(decode_change(entry))
    return f"{head} {body}".rstrip(" ")


def hard_state_text(hard_state: HardState) -> str:
    vote = f" Vote:{hard_state.vote}" if hard_state.vote else ""
    return f"Term:{hard_state.term}{vote} Commit:{hard_state.commit}"


def ids_text(ids: Sequence[int]) -> str:
    return "[" + " ".join(map(str, ids)) + "]"


def snapshot_text(snapshot: Snapshot) -> str:
    configuration = snapshot.configuration
    return (
        f"Index:{snapshot.index} Term:{snapshot.term} ConfState:Voters:{ids_text(configuration.voters)}"
        f" VotersOutgoing:{ids_text(configuration.voters_outgoing)} Learners:{ids_text(configuration.learners)}"
        f" LearnersNext:{ids_text(configuration.learners_next)} AutoLeave:{str(configuration.auto_leave).lower()}"
    )


def message_text(message: Message, indent: str = "") -> str:
    parts = [
        f"{indent}{message.sender}->{message.to} {MESSAGE_KINDS[message.kind]} Term:{message.term}"
        f" Log:{message.log_term}/{message.index}"
    ]
    if message.reject:
        parts.append(f" Rejected (Hint: {message.hint})")
    if message.commit:
        parts.append(f" Commit:{message.commit}")
    parts.append(entries_text(message.entries, indent))
    if message.snapshot:
        parts.append(f"\n{indent}  Snapshot: {snapshot_text(message.snapshot)}")
    return "".join(parts)


def entries_text(entries: Sequence[Entry], indent: str) -> str:
    if len(entries) == 1:
        return f" Entries:[{entry_text(entries[0])}]"
    inner = "".join(f"\n{indent}  {entry_text(entry)}" for entry in entries)
    return f" Entries:[{inner}\n{indent}]" if entries else ""


# The original's storage threads are asked and answer by messages; these print ours as such.


def append_text(node: int, work: StorageAppend, *, with_responses: bool = True) -> str:
    state = work.hard_state or HardState()
    parts = [f"{node}->AppendThread MsgStorageAppend Term:{state.term} Log:0/0"]
    parts += [f" Commit:{state.commit}"] if state.commit else []
    parts += [f" Vote:{state.vote}"] if state.vote else []
    parts.append(entries_text(work.entries, ""))
    if work.snapshot:
        parts.append(f"\n  Snapshot: {snapshot_text(work.snapshot)}")
    if work.responses and with_responses:
        lines = "".join(f"\n{response_text(node, response, '  ')}" for response in work.responses)
        parts.append(f" Responses:[{lines}\n]")
    return "".join(parts)


def response_text(node: int, response: Message | Appended | StorageApply, indent: str = "") -> str:
    match response:
        case Message():
            return message_text(response, indent)
        case Appended(term, index, log_term, snapshot):
            head = f"{indent}AppendThread->{node} MsgStorageAppendResp Term:{term} Log:{log_term}/{index}"
            return head + (f"\n{indent}  Snapshot: {snapshot_text(snapshot)}" if snapshot else "")
        case StorageApply(entries):
            head = f"{indent}ApplyThread->{node} MsgStorageApplyResp Term:0 Log:0/0"
            return head + entries_text(entries, indent)


def apply_text(node: int, work: StorageApply, *, with_responses: bool = True) -> str:
    head = f"{node}->ApplyThread MsgStorageApply Term:0 Log:0/0" + entries_text(work.entries, "")
    return head + (f" Responses:[\n{response_text(node, work, '  ')}\n]" if with_responses else "")


def ready_text(node: int, ready: Ready | None) -> str:
    if ready is None:
        return "<empty Ready>"
    lines = [f"Ready MustSync={str(ready.must_sync).lower()}:"]
    if ready.soft_state:
        lines.append(f"Lead:{ready.soft_state.leader} State:{ROLES[ready.soft_state.role]}")
    if ready.hard_state:
        lines.append(f"HardState {hard_state_text(ready.hard_state)}")
    if ready.entries:
        lines += ["Entries:", *map(entry_text, ready.entries)]
    if ready.snapshot:
        lines.append(f"Snapshot {snapshot_text(ready.snapshot)}")
    if ready.committed_entries:
        lines += ["CommittedEntries:", *map(entry_text, ready.committed_entries)]
    messages = [message_text(message) for message in (*ready.messages, *ready.messages_after_sync)]
    messages += [append_text(node, ready.append)] if ready.append else []
    messages += [apply_text(node, ready.apply)] if ready.apply else []
    if messages:
        lines += ["Messages:", *messages]
    return "\n".join(lines)


def progress_text(progress: Progress, *, with_activity: bool = True) -> str:
    parts = [f"{PROGRESS_STATES[progress.state]} match={progress.match} next={progress.next}"]
    if progress.is_learner:
        parts.append(" learner")
    if progress.is_paused:
        parts.append(" paused")
    if progress.pending_snapshot:
        parts.append(f" pendingSnap={progress.pending_snapshot}")
    if with_activity and not progress.recent_active:
        parts.append(" inactive")
    if len(progress.inflights):
        parts.append(f" inflight={len(progress.inflights)}" + ("[full]" if progress.inflights.full else ""))
    return "".join(parts)


def progress_map_text(progress: Mapping[int, Progress]) -> str:
    return "\n".join(f"{node}: {progress_text(one)}" for node, one in sorted(progress.items()))


def configuration_text(configuration: Configuration) -> str:
    def group(ids: Sequence[int]) -> str:
        return "(" + " ".join(map(str, ids)) + ")"

    text = f"voters={group(configuration.voters)}"
    if configuration.voters_outgoing:
        text += f"&&{group(configuration.voters_outgoing)}"
    if configuration.learners:
        text += f" learners={group(configuration.learners)}"
    if configuration.learners_next:
        text += f" learners_next={group(configuration.learners_next)}"
    return text + (" autoleave" if configuration.auto_leave else "")


def error_text(error: ConsensusError) -> str:
    match error:
        case UnknownPeer():
            return "raft: cannot step as peer not found"
        case ProposalDropped() | Overloaded():
            return "raft proposal dropped"
        case _:
            return str(error)


def commit_chart(voters: Sequence[int], acknowledged: Mapping[int, int]) -> str:
    """A bar for each voter: as long as the number of voters whose index is lower."""
    if not voters:
        return "<empty majority quorum>"
    count = len(voters)
    ranked = sorted(voters, key=lambda voter: (acknowledged.get(voter, 0), voter))
    bars = {ranked[0]: 0}
    for place, (before, voter) in enumerate(pairwise(ranked), start=1):
        rises = acknowledged.get(before, 0) < acknowledged.get(voter, 0)
        bars[voter] = place if rises else bars[before]
    lines = [" " * count + "    idx"]
    for voter in sorted(voters):
        known = voter in acknowledged
        bar = "x" * bars[voter] + ">" + " " * (count - bars[voter]) if known else "?" + " " * count
        lines.append(f"{bar} {acknowledged.get(voter, 0):5d}    (id={voter})")
    return "\n".join(lines) + "\n"
