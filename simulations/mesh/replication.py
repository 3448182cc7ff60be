"""Listens in on the partitions of a mesh: rows, journals, messages, reads and answers.

What is judged: the invariants of partition replication while it runs, from what is put on a disk and what leaves a
node;
and that callers are answered with what is committed, each request having taken effect once.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from meshnode import Node
from meshnode.agents.ledger import Ledger
from meshnode.agents.messages import Answer, Call, OpenSession, Status
from meshnode.agents.request import Request, Respond
from meshnode.agents.service import Agents
from meshnode.errors import MeshError
from meshnode.identity import NodeId, PartitionId
from meshnode.metadata.image import MetadataState
from meshnode.metadata.rows import Row
from meshnode.metadata.state import Metadata
from meshnode.partitions.driver import Partitions
from meshnode.partitions.effects import Committed, Deposed, Effect, Send, Serving
from meshnode.partitions.journal import Journal
from meshnode.partitions.messages import Confirm, Confirmed, Entry, Record, Snapshot
from meshnode.partitions.partition import Partition
from meshnode.wire import decode
from simulations.checkers.ledgers import LedgersChecker
from simulations.checkers.partitions import PartitionsChecker
from simulations.checkers.reads import ReadsChecker
from simulations.checkers.requests import RequestsChecker
from simulations.checkers.rows import RowsChecker
from simulations.checkers.violation import Violation
from simulations.kernel import Process
from simulations.kernel.process import current_process
from simulations.mesh.listening import Listener, Method, Wrapping


@dataclass(slots=True)
class _Life:
    """One start of a node.

    Attributes:
        queue: what its journal has not synced yet, in order.
        touched: the copies that changed since they were last checked.
    """

    driver: Partitions
    process: Process
    queue: deque[Entry] = field(default_factory=deque)
    touched: dict[PartitionId, None] = field(default_factory=dict)


class _Copies(PartitionsChecker):
    """Hands on what is committed."""

    def __init__(self, clock: Callable[[], float], rows: RowsChecker, requests: RequestsChecker) -> None:
        super().__init__(clock, row_of=rows.begun)
        self._requests = requests
        self._ledgers = LedgersChecker(clock)

    def on_committed(self, partition: PartitionId, record: Record) -> None:
        kept = decode(record.payload) if record.payload else None
        self._requests.committed(partition, record.sequence, kept)
        self._ledgers.committed(partition, kept)

    def wrote(self, node: NodeId, entry: Entry) -> None:
        """What a copy of a partition would hold after a restart."""
        super().wrote(node, entry)
        if isinstance(entry, Snapshot):
            self._ledgers.check_snapshot(entry.partition, node, entry.state, entry.position.sequence)

    def check_state(self, copy: Partition, node: NodeId) -> None:
        """What its records have made of it is what they make of any copy."""
        self._ledgers.check(copy.replica.partition, node, _ledger_of(copy), copy.replica.committed)

    def check_last_record(self, copy: Partition, node: NodeId) -> None:
        """The same of its last record."""
        self._ledgers.check_last(copy.replica.partition, node, _ledger_of(copy), copy.replica.committed)


def _ledger_of(copy: Partition) -> Ledger:
    ledger = copy.replica.machine
    assert isinstance(ledger, Ledger)
    return ledger


class Replication(Listener):
    """Sees what every node's partitions do, in the order of its happening."""

    def __init__(self, clock: Callable[[], float], fail: Callable[[Violation], None]) -> None:
        super().__init__(clock, fail)
        self._rows = RowsChecker(clock)
        self._is_jump = False
        self._requests = RequestsChecker(clock)
        self._copies = _Copies(clock, self._rows, self._requests)
        self._reads = ReadsChecker(clock, holds=self._copies.promises.holds)
        # The last life of each node, and the node of each of their journals.
        self._lives: dict[NodeId, _Life] = {}
        self._owners: dict[Journal, NodeId] = {}
        # Requests whose turn has a record, which may or may not come to be committed.
        self._under_way: set[Request] = set()
        self.names: dict[int, str] = {}
        """What people call the process of each node id."""

    def wrappings(self) -> tuple[Wrapping, ...]:
        return (
            (Metadata, "_become", self._become_heard),
            (Node, "_row_changed", self.before(self._row_changed)),
            (Partitions, "__init__", self.after(self._begin)),
            (Partitions, "recover", self.after(self._recovered)),
            (Partitions, "_perform", self.after(self._stepped)),
            (Partitions, "_perform_one", self.before(self._performs)),
            (Partitions, "_send", self.before(self._sends)),
            (Partitions, "receive", self.before(self._receives)),
            (Journal, "write", self.before(self._wrote)),
            (Journal, "_write_and_sync", self.after(self._synced)),
            (Agents, "call", self._call_heard),
            (Agents, "_record", self.before(self._recorded)),
            (Request, "respond", self.before(self._responded)),
            (Agents, "open_session", self._opening_heard),
        )

    def check_logs(self) -> None:
        """At the end of a run: what is in memory is what was written, and what the records make."""
        for node, life in self._lives.items():
            for copy in life.driver.partitions.values() if life.process.is_alive else ():
                self.tell(self._copies.check_whole_log, copy, node)
                self.tell(self._copies.check_state, copy, node)

    # ---- lives

    def _begin(self, driver: Partitions, *_: object) -> None:
        node, journal = driver._node_id, driver._journal
        process = current_process()
        assert process is not None
        self.names[node] = process.name
        last = self._lives.get(node)
        if last is not None:
            del self._owners[last.driver._journal]
        self._lives[node] = _Life(driver, process)
        self._owners[journal] = node
        self._rows.restarted(node)

    def _recovered(self, driver: Partitions) -> None:
        node = self._owners.get(driver._journal)
        if node is None:
            return  # its process is gone
        self._copies.recovered(driver.partitions, node)
        for copy in driver.partitions.values():
            self._copies.check(copy, node)
            self._copies.check_whole_log(copy, node)
            self._copies.check_state(copy, node)

    # ---- rows and journals

    def _become_heard(self, original: Method) -> Method:
        def heard(metadata: Metadata, state: MetadataState) -> None:
            self._is_jump = True
            try:
                original(metadata, state)
            finally:
                self._is_jump = False

        return heard

    def _row_changed(self, node: Node, partition: PartitionId, row: Row) -> None:
        self._rows.changed(node.node_id, partition, row, is_jump=self._is_jump)

    def _wrote(self, journal: Journal, entry: Entry) -> None:
        node = self._owners[journal]
        life = self._lives[node]
        life.queue.append(entry)
        life.touched[entry.partition] = None
        self._copies.wrote(node, entry)

    def _synced(self, journal: Journal, queue: list[bytes], *_: object) -> None:
        node = self._owners.get(journal)
        if node is None:
            return  # its process is gone
        entries = self._lives[node].queue
        for _entry in queue:
            self._copies.synced(node, entries.popleft())

    # ---- what a node does

    def _performs(self, driver: Partitions, effect: Effect) -> None:
        node, copies = driver._node_id, driver.partitions
        match effect:
            case Committed(partition):
                self._copies.check(copies[partition], node)
                self._copies.check_last_record(copies[partition], node)
            case Serving(partition, epoch):
                copy = copies[partition]
                self._copies.check(copy, node)
                self._copies.check_state(copy, node)
                self._copies.serving(partition, epoch, node, driver._core._boot, copy.replica.committed)
            case Deposed(partition):
                self._lives[node].touched[partition] = None
            case _:
                pass

    def _stepped(self, driver: Partitions, *_: object) -> None:
        life = self._lives[driver._node_id]
        if driver._performing or not life.touched:
            return
        touched, life.touched = life.touched, {}
        for partition in touched:
            if partition in driver.partitions:
                self._copies.check(driver.partitions[partition], driver._node_id)

    def _sends(self, driver: Partitions, send: Send) -> None:
        match send.message:
            case Confirm():
                self._reads.asked(driver._node_id, send.to, send.message)
            case Confirmed():
                self._reads.answered(driver._node_id, send.to, send.message)
            case _:
                self._copies.sent(driver._node_id, send.message)

    def _receives(self, driver: Partitions, sender: NodeId, message: object) -> None:
        self._copies.received(driver._node_id, sender, message)

    # ---- what callers are told

    def _call_heard(self, original: Method) -> Method:
        def heard(agents: Agents, call: Call, respond: Respond) -> None:
            may_write = _may_write(agents, call)
            driver = agents._primaries  # none while the node starts
            copy = driver.partitions.get(call.partition) if isinstance(driver, Partitions) else None
            read = None if may_write or copy is None else self._reads.begun(copy)

            def respond_heard(answer: Answer) -> None:
                if answer.status in (Status.DONE, Status.FAILED):
                    if may_write:
                        self.tell(self._requests.answered, call, answer)
                    elif copy is not None and read is not None:
                        self.tell(self._reads.ended, read, copy.replica.committed)
                respond(answer)

            original(agents, call, respond_heard)

        return heard

    def _recorded(self, _agents: Agents, _serving: object, _activation: object, request: Request, *_: object) -> None:
        self._under_way.add(request)

    def _responded(self, request: Request, answer: Answer) -> None:
        if request in self._under_way:
            self._under_way.remove(request)
            self._requests.ended(request.call, answer.status)

    def _opening_heard(self, original: Method) -> Method:
        def heard(agents: Agents, opening: OpenSession, respond: Respond) -> None:
            def respond_heard(answer: Answer) -> None:
                if answer.status is Status.DONE:
                    self.tell(self._requests.opened, opening, answer)
                respond(answer)

            original(agents, opening, respond_heard)

        return heard


def _may_write(agents: Agents, call: Call) -> bool:
    try:
        return not agents.application.definition(call.agent_type).handler(call.method).is_read_only
    except MeshError:
        return False
