"""Scripts that drive a set of cores, their logs, and the messages between them."""

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from consensus.config import RaftConfig
from consensus.errors import ConsensusError
from consensus.memory import MemoryLog
from consensus.messages import (
    ConfChange,
    ConfChangeSet,
    Configuration,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    Snapshot,
    Transition,
)
from consensus.raft import Raft
from consensus.ready import Appended, Ready, StorageAppend, StorageApply
from consensus.reconfiguration import decode_change
from tests.conformance.describe import (
    MESSAGE_KINDS,
    ROLES,
    append_text,
    apply_text,
    entry_text,
    error_text,
    message_text,
    parse_changes,
    progress_map_text,
    ready_text,
    response_text,
)
from tests.conformance.script import Directive, UnsupportedError

ELECTION_TICKS = 3
NO_LIMIT = 1 << 60
TRANSITIONS = {
    "auto": Transition.AUTO,
    "implicit": Transition.JOINT_IMPLICIT,
    "explicit": Transition.JOINT_EXPLICIT,
}


class Node:
    """A core, its log, and a state machine that appends what it is given. A tick is one unit of time."""

    def __init__(self, config: RaftConfig, snapshot: Snapshot) -> None:
        self.log = MemoryLog(snapshot)
        self.now = 0.0
        self.raft = Raft(config, self.log, now=0.0, rng=random.Random(config.id))
        self.is_asynchronous = config.async_storage
        self.ready: Ready | None = None
        self.append_work: deque[StorageAppend] = deque()
        self.apply_work: deque[StorageApply] = deque()

    def has_ready(self) -> bool:
        """A batch that was looked at stays the next one."""
        if self.ready is None:
            self.ready = self.raft.ready()
        return self.ready is not None

    def has_append_work(self) -> bool:
        return bool(self.append_work)

    def has_apply_work(self) -> bool:
        return bool(self.apply_work)

    def tick(self) -> None:
        self.now += 1.0
        self.raft.wake(self.now)

    def write(self, work: Ready | StorageAppend) -> None:
        if work.snapshot:
            self.log.install(work.snapshot)
        if work.hard_state:
            self.log.set_hard_state(work.hard_state)
        self.log.append(work.entries)

    def apply(self, entry: Entry) -> None:
        last = self.log.snapshot()
        configuration, data = last.configuration, entry.data
        if entry.kind is not EntryKind.NORMAL:
            change = decode_change(entry)
            configuration, data = self.raft.apply_change(change), change.context
        self.log.record_snapshot(Snapshot(entry.index, entry.term, configuration, last.data + data))


@dataclass(frozen=True)
class InFlight:
    """Something on its way to a node: a message, or the answer of one of its own storage threads."""

    to: int
    what: Message | Appended | StorageApply

    @property
    def text(self) -> str:
        return response_text(self.to, self.what)


@dataclass
class Output:
    """What a directive has printed so far."""

    lines: list[str]
    indent: str = ""

    def add(self, text: str) -> None:
        self.lines += [self.indent + line for line in text.split("\n")]


class InteractionScript:
    """The interpreter. Nodes are numbered from 1."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.in_flight: list[InFlight] = []
        self.quiet = False
        self.output = Output([])
        self.commands: dict[str, Callable[[Directive], None]] = {
            "add-nodes": self.add_nodes,
            "campaign": self.campaign,
            "compact": self.compact,
            "deliver-msgs": self.deliver_messages,
            "forget-leader": self.forget_leader,
            "log-level": self.log_level,
            "process-append-thread": self.process_append_threads,
            "process-apply-thread": self.process_apply_threads,
            "process-ready": self.process_ready,
            "propose": self.propose,
            "propose-conf-change": self.propose_change,
            "raft-log": self.raft_log,
            "raft-state": self.raft_state,
            "report-unreachable": self.report_unreachable,
            "send-snapshot": self.send_snapshot,
            "set-randomized-election-timeout": self.set_timeout,
            "stabilize": self.stabilize,
            "status": self.status,
            "tick-election": self.tick_election,
            "tick-heartbeat": self.tick_heartbeat,
            "transfer-leadership": self.transfer_leadership,
        }

    def run(self, directive: Directive) -> str:
        command = self.commands.get(directive.command)
        if command is None:
            raise UnsupportedError(f"directive {directive.command} not supported yet")
        self.output = Output([])
        level = directive.text("log-level", "")
        was_quiet = self.quiet
        self.quiet = self.quiet if not level else level == "none"
        errors: list[str] = []
        try:
            command(directive)
        except ConsensusError as error:
            errors.append(error_text(error))
        directive.check_all_used()
        printed = errors if self.quiet else [*self.output.lines, *errors]
        if level:
            self.quiet = was_quiet
        return "\n".join(printed)

    def node(self, number: int) -> Node:
        return self.nodes[number - 1]

    def first_node(self, directive: Directive) -> Node:
        return self.node(int(directive.words()[0]))

    def named_nodes(self, directive: Directive) -> list[Node]:
        return [self.node(int(word)) for word in directive.words()] or self.nodes

    # Nodes.

    def add_nodes(self, directive: Directive) -> None:
        index = directive.number("index", 0)
        learners = tuple(directive.numbers("learners"))
        configuration = Configuration(voters=tuple(directive.numbers("voters")), learners=learners)
        data = directive.text("content", "").encode()
        snapshot = Snapshot(index, 1, configuration, data) if index else Snapshot()
        is_asynchronous = directive.flag("async-storage-writes")
        reads = directive.text("read-only", "safe")
        if reads not in ("safe", "lease-based"):
            raise UnsupportedError(f"value {reads} of the option read-only not supported yet")
        for _ in range(int(directive.words()[0])):
            config = RaftConfig(
                id=len(self.nodes) + 1,
                election_timeout_s=float(ELECTION_TICKS),
                heartbeat_interval_s=1.0,
                pre_vote=directive.flag("prevote"),
                check_quorum=directive.flag("checkquorum"),
                step_down_on_removal=directive.flag("step-down-on-removal"),
                commit_in_refusals=False,
                lease_reads=reads == "lease-based",
                check_changes=not directive.flag("disable-conf-change-validation"),
                async_storage=is_asynchronous,
                append_bytes_max=NO_LIMIT,
                inflight_messages_max=directive.number("inflight", 1 << 30),
                inflight_bytes_max=NO_LIMIT,
                uncommitted_bytes_max=NO_LIMIT,
                apply_bytes_max=directive.number("max-committed-size-per-ready", NO_LIMIT),
            )
            self.nodes.append(Node(config, snapshot))

    def log_level(self, directive: Directive) -> None:
        self.quiet = directive.words()[0] == "none"

    # Calls on one core.

    def campaign(self, directive: Directive) -> None:
        node = self.first_node(directive)
        node.raft.campaign(node.now)

    def propose(self, directive: Directive) -> None:
        number, data = directive.words()
        self.node(int(number)).raft.propose(data.encode())

    def propose_change(self, directive: Directive) -> None:
        node = self.first_node(directive)
        changes = parse_changes(directive.input)
        transition = TRANSITIONS[directive.text("transition", "auto")]
        if directive.flag("v1"):
            (single,) = changes
            change: ConfChange | ConfChangeSet = single
        else:
            change = ConfChangeSet(changes, transition)
        node.raft.propose_change(change)

    def forget_leader(self, directive: Directive) -> None:
        self.first_node(directive).raft.forget_leader()

    def report_unreachable(self, directive: Directive) -> None:
        reporter, lost = directive.words()
        self.node(int(reporter)).raft.report_unreachable(int(lost))

    def transfer_leadership(self, directive: Directive) -> None:
        self.node(directive.number("from", 0)).raft.transfer_leadership(directive.number("to", 0))

    def send_snapshot(self, directive: Directive) -> None:
        sender, receiver = map(int, directive.words())
        node = self.node(sender)
        message = Message(
            MessageKind.SNAPSHOT, to=receiver, sender=sender, term=node.raft.term, snapshot=node.log.snapshot()
        )
        self.send([message])
        self.output.add(message_text(message))

    def compact(self, directive: Directive) -> None:
        number, index = map(int, directive.words())
        self.node(number).log.compact(index)
        self.print_log(self.node(number))

    # Time.

    def tick_election(self, directive: Directive) -> None:
        node = self.first_node(directive)
        for _ in range(ELECTION_TICKS):
            node.tick()

    def tick_heartbeat(self, directive: Directive) -> None:
        self.first_node(directive).tick()

    def set_timeout(self, directive: Directive) -> None:
        self.first_node(directive).raft._core.randomized_timeout = float(directive.number("timeout", 0))

    # Work and messages.

    def send(self, messages: Iterable[Message]) -> None:
        self.in_flight += [InFlight(message.to, message) for message in messages]

    def for_each(self, directive: Directive, what: str, process: Callable[[Node], None]) -> None:
        nodes = self.named_nodes(directive)
        for node in nodes:
            if len(nodes) > 1:
                self.output.add(f"> {node.raft.id} {what}")
                self.output.indent = "  "
            process(node)
            self.output.indent = ""

    def process_ready(self, directive: Directive) -> None:
        self.for_each(directive, "handling Ready", self.process)

    def process_append_threads(self, directive: Directive) -> None:
        self.for_each(directive, "processing append thread", self.process_append_thread)

    def process_apply_threads(self, directive: Directive) -> None:
        self.for_each(directive, "processing apply thread", self.process_apply_thread)

    def process(self, node: Node) -> None:
        node.has_ready()
        ready = node.ready
        self.output.add(ready_text(node.raft.id, ready))
        if ready is None:
            return
        node.ready = None
        self.send(ready.messages)
        if node.is_asynchronous:
            node.append_work.extend([ready.append] if ready.append else [])
            node.apply_work.extend([ready.apply] if ready.apply else [])
            return
        node.write(ready)
        for entry in ready.committed_entries:
            node.apply(entry)
        self.send(ready.messages_after_sync)
        node.raft.advance()

    def process_append_thread(self, node: Node) -> None:
        if not node.append_work:
            self.output.add("no append work to perform")
            return
        work = node.append_work.popleft()
        self.output.add(f"Processing:\n{append_text(node.raft.id, work, with_responses=False)}")
        node.write(work)
        self.output.add("Responses:")
        for response in work.responses:
            self.answer(node.raft.id, response)

    def process_apply_thread(self, node: Node) -> None:
        if not node.apply_work:
            self.output.add("no apply work to perform")
            return
        work = node.apply_work.popleft()
        self.output.add(f"Processing:\n{apply_text(node.raft.id, work, with_responses=False)}")
        for entry in work.entries:
            node.apply(entry)
        self.output.add("Responses:")
        self.answer(node.raft.id, work)

    def answer(self, node: int, response: Message | Appended | StorageApply) -> None:
        self.output.add(response_text(node, response))
        self.in_flight.append(InFlight(response.to if isinstance(response, Message) else node, response))

    def deliver_messages(self, directive: Directive) -> None:
        kinds = {text: kind for kind, text in MESSAGE_KINDS.items()}
        named = directive.text("type", "")
        only = kinds[named] if named else None
        delivered = 0
        for name, value in directive.arguments.items():
            if value is None:
                directive.used.add(name)
                delivered += self.deliver(int(name), only=only)
            elif name == "drop":
                delivered += sum(self.deliver(number, only=only, drop=True) for number in directive.numbers("drop"))
        if not delivered:
            self.output.add("no messages")

    def deliver(self, number: int, *, only: MessageKind | None = None, drop: bool = False) -> int:
        due = [one for one in self.in_flight if self.is_due(one, number, only)]
        self.in_flight = [one for one in self.in_flight if not self.is_due(one, number, only)]
        for one in due:
            self.output.add(("dropped: " if drop else "") + one.text)
            if drop:
                continue
            try:
                self.hand_over(self.node(number), one.what)
            except ConsensusError as error:
                self.output.add(error_text(error))
        return len(due)

    @staticmethod
    def hand_over(node: Node, what: Message | Appended | StorageApply) -> None:
        match what:
            case Message() if what.sender == node.raft.id:
                node.raft.receive_own(what, node.now)
            case Message():
                node.raft.receive(what, node.now)
            case Appended():
                node.raft.stored(what, node.now)
            case StorageApply():
                node.raft.applied(what, node.now)

    @staticmethod
    def is_due(one: InFlight, number: int, only: MessageKind | None) -> bool:
        return one.to == number and (only is None or (isinstance(one.what, Message) and one.what.kind is only))

    def stabilize(self, directive: Directive) -> None:
        nodes = self.named_nodes(directive)
        busy = True
        while busy:
            busy = False
            for has_work, what, process in (
                (Node.has_ready, "handling Ready", self.process),
                (self.has_messages, "receiving messages", self.receive),
                (Node.has_append_work, "processing append thread", self.drain_append_thread),
                (Node.has_apply_work, "processing apply thread", self.drain_apply_thread),
            ):
                for node in nodes:
                    if has_work(node):
                        busy = True
                        self.output.add(f"> {node.raft.id} {what}")
                        self.output.indent = "  "
                        process(node)
                        self.output.indent = ""

    def has_messages(self, node: Node) -> bool:
        return any(one.to == node.raft.id for one in self.in_flight)

    def receive(self, node: Node) -> None:
        self.deliver(node.raft.id)

    def drain_append_thread(self, node: Node) -> None:
        while node.append_work:
            self.process_append_thread(node)

    def drain_apply_thread(self, node: Node) -> None:
        while node.apply_work:
            self.process_apply_thread(node)

    # What is printed.

    def status(self, directive: Directive) -> None:
        self.output.add(progress_map_text(self.first_node(directive).raft.progress))

    def raft_state(self, _: Directive) -> None:
        for node in self.nodes:
            raft = node.raft
            voter = "Voter" if raft.id in raft.configuration.electorate else "Non-Voter"
            self.output.add(f"{raft.id}: {ROLES[raft.role]} ({voter}) Term:{raft.term} Lead:{raft.leader}")

    def raft_log(self, directive: Directive) -> None:
        self.print_log(self.first_node(directive))

    def print_log(self, node: Node) -> None:
        first, last = node.log.first_index(), node.log.last_index()
        if last < first:
            self.output.add(f"log is empty: first index={first}, last index={last}")
            return
        for entry in node.log.entries(first, last + 1):
            self.output.add(entry_text(entry))
