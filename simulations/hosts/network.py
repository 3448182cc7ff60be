"""The network between machines."""

import errno
import functools
from collections import Counter, deque
from collections.abc import Callable

import trio

from meshnode.errors import AddressInUse, OperatorError
from meshnode.identity import Address
from simulations.hosts.damage import damaged
from simulations.hosts.datagrams import SimDatagrams
from simulations.hosts.quality import Fate, Paths
from simulations.hosts.streams import SimListener, SimStream
from simulations.hosts.trace import Trace
from simulations.kernel import Events

FIRST_FREE_PORT = 32_768

STREAMS_MIN = 256
"""So many ends of connections are kept before those that are over are looked for."""


KNOCK_AGAIN_S = 1.0
"""How soon a kernel that was not answered tries to connect again."""

DIAL_S = 127.0
"""How long it goes on like that: Linux's six repetitions."""

CLOG_DATAGRAMS_MAX = 1000
"""What a router keeps for a path, the newest."""

QUEUE_S = 0.5
"""A datagram that would have to wait longer for a narrow path is lost there."""


class Dial:
    """An attempt to connect.

    Attributes:
        stream: what came of it, from when the other side has it.
        problem: why nothing came of it.
    """

    def __init__(self, local: Address, to: Address, owner: object) -> None:
        self.local = local
        self.to = to
        self.owner = owner
        self.answered = trio.Event()
        self.stream: SimStream | None = None
        self.problem: OSError | None = None


class Network:
    """Machines reach each other here by their addresses.

    Args:
        seed: of everything that is drawn.
        believes: whether a node would take a datagram for a genuine one: see `simulations.hosts.damage`.

    Attributes:
        fired: how often a fault struck that was waiting for something to be sent, by its name.
    """

    def __init__(
        self,
        events: Events,
        trace: Trace,
        *,
        seed: int,
        believes: Callable[[bytes], bool] = lambda _data: False,
    ) -> None:
        self.events = events
        self.trace = trace
        self.paths = Paths(seed)
        self.is_private = False
        """Whether what streams carry is random to all but the two ends, and only its size is the same in each run."""
        self.datagrams_sent = 0
        self.datagrams_lost = 0
        self.fired: Counter[str] = Counter()
        self._believes = believes
        self._hosts: set[str] = set()
        self._down: set[str] = set()
        self._hanging: set[str] = set()
        # Datagrams that wait for the end of a clog: as many as `CLOG_DATAGRAMS_MAX` on each path.
        self._clogged: dict[tuple[str, str], deque[Callable[[], None]]] = {}
        self._endpoints: dict[Address, SimDatagrams] = {}
        self._listeners: dict[Address, SimListener] = {}
        # Ends of connections that may be used yet, in the order of their making.
        self._streams: dict[SimStream, None] = {}
        self._streams_max = STREAMS_MIN
        self._watching: dict[SimStream, None] = {}
        self._dials: dict[Dial, None] = {}
        self._next_port: dict[str, int] = {}

    # ---- machines and processes

    def add_machine(self, host: str) -> None:
        """Connect a machine."""
        self._hosts.add(host)

    def is_down(self, host: str) -> bool:
        """Whether the machine is without power, or not there at all."""
        return host not in self._hosts or host in self._down

    def power_off(self, host: str) -> None:
        """The machine is gone from one moment to the next: nobody is told."""
        self._down.add(host)
        for dial in [dial for dial in self._dials if dial.local.host == host]:
            self._abandon(dial)
        for stream in self._streams_of(host):
            stream.vanish()
            del self._streams[stream]
        for stream in list(self._streams):
            if stream.remote.host == host:
                stream.path_darkens()

    def power_on(self, host: str) -> None:
        """The machine is back; it knows nothing of the connections it had."""
        self._down.discard(host)
        for stream in list(self._streams):
            peer = stream.peer
            if stream.remote.host == host and peer is not None and peer.owner is None:
                self.tell(stream.remote, stream.local, functools.partial(stream.break_off, "connection reset"))
        self._open_paths()

    def close_all(self, owner: object) -> None:
        """A process ended, in whatever way: the kernel closes what it had open."""
        for endpoint in [endpoint for endpoint in self._endpoints.values() if endpoint.owner is owner]:
            self.close_datagrams(endpoint)
        for listener in [listener for listener in self._listeners.values() if listener.owner is owner]:
            listener.close()
        for dial in [dial for dial in self._dials if dial.owner is owner]:
            self._abandon(dial)
        for stream in [stream for stream in self._streams if stream.owner is owner]:
            stream.close()

    def hang_dials(self, host: str, *, hang: bool) -> None:
        """Whether connecting to the machine takes for ever."""
        (self._hanging.add if hang else self._hanging.discard)(host)

    # ---- faults

    def cut(self, source: str, target: str) -> None:
        """Nothing gets from one machine to the other until `mend`."""
        self.paths.cut(source, target)
        for stream in list(self._streams):
            if {stream.local.host, stream.remote.host} == {source, target}:
                stream.path_darkens()

    def mend(self, source: str, target: str) -> None:
        """Undo one `cut`."""
        if self.paths.mend(source, target):
            self._open_paths()

    def clog(self, source: str, target: str) -> None:
        """What one machine sends to the other is held up until `unclog`."""
        if (source, target) not in self._clogged:
            self._clogged[source, target] = deque(maxlen=CLOG_DATAGRAMS_MAX)
            self.cut(source, target)

    def unclog(self, source: str, target: str) -> None:
        """What was held up arrives."""
        waiting = self._clogged.pop((source, target), None)
        if waiting is not None:
            self.mend(source, target)
            for send in waiting:
                send()

    def calm(self) -> None:
        """No path is cut or clogged, hangs, or is worse than the others any more."""
        for path in list(self._clogged):
            self.unclog(*path)
        self.paths.calm()
        self._hanging.clear()
        self._open_paths()

    def reset_streams(self, one: str, other: str) -> None:
        """All connections between two machines end."""
        for stream in self._streams_between(one, other):
            stream.break_off("connection reset")

    def reset_in_frame(self, one: str, other: str) -> None:
        """All connections between two machines end in the middle of what they carry next."""
        for stream in self._streams_between(one, other):
            stream.breaks_next = True

    def half_open(self, one: str, other: str) -> None:
        """All connections between two machines end for the first one alone."""
        for stream in self._streams_of(one):
            if stream.remote.host == other and stream.peer is not None:
                stream.peer.orphan()
                stream.break_off("connection reset")

    def is_dark(self, source: str, target: str) -> bool:
        """Whether nothing that is sent arrives, or nothing that answers it does."""
        paths = self.paths
        return paths.is_cut(source, target) or paths.is_cut(target, source) or target in self._down

    def can_reach(self, source: str, target: str) -> bool:
        """Whether what is sent arrives."""
        return not self.paths.is_cut(source, target) and target not in self._down

    # ---- datagrams

    def open_datagrams(self, bind: Address, owner: object) -> SimDatagrams:
        """Raises as `meshnode.host.Host.datagrams` does."""
        address = self._bind(bind, self._endpoints)
        endpoint = self._endpoints[address] = SimDatagrams(self, address, owner)
        return endpoint

    def close_datagrams(self, endpoint: SimDatagrams) -> None:
        """The address is free again."""
        if not endpoint.is_closed:
            endpoint.close()
            del self._endpoints[endpoint.address]

    def send_datagram(self, source: Address, target: Address, data: bytes) -> None:
        """Once, with no promise."""
        self.datagrams_sent += 1
        path = source.host, target.host
        fate = self.paths.draw(*path, "datagram")
        if fate.is_lost or self.is_down(source.host):
            self.datagrams_lost += 1
            return
        if fate.damage:
            data = damaged(data, fate.damage)
            if self._believes(data):
                self.fired["damaged datagram, lost"] += 1
                self.datagrams_lost += 1
                return
            self.fired["damaged datagram"] += 1
        if path in self._clogged:
            self.fired["clogged datagram"] += 1
            self._clogged[path].append(functools.partial(self._pass_on, source, target, data, fate))
        elif self.paths.is_cut(*path):
            self.datagrams_lost += 1
        else:
            self._pass_on(source, target, data, fate)

    def _pass_on(self, source: Address, target: Address, data: bytes, fate: Fate) -> None:
        """Nothing is in the way of a datagram but those before it."""
        wait_s = self.paths.leaves_at(source.host, target.host, len(data), self.events.now) - self.events.now
        if wait_s > QUEUE_S:
            self.fired["datagram past a narrow link"] += 1
            self.datagrams_lost += 1
            return
        self.events.after(wait_s + fate.delay_s, lambda: self._arrive(source, target, data))
        if fate.copy_delay_s is not None:
            self.events.after(wait_s + fate.copy_delay_s, lambda: self._arrive(source, target, data))

    def _arrive(self, source: Address, target: Address, data: bytes) -> None:
        endpoint = self._endpoints.get(target)
        if endpoint is not None and target.host not in self._down:
            self.trace.note(self.events.now, "datagram", f"{source} → {target}", data)
            endpoint.arrive(data, source)

    # ---- streams

    def listen(self, bind: Address, owner: object) -> SimListener:
        """Raises as `meshnode.host.Host.listen` does."""
        address = self._bind(bind, self._listeners)
        listener = SimListener(address, owner, lambda: self._listeners.pop(address, None))
        self._listeners[address] = listener
        return listener

    async def dial(self, source: str, to: Address, owner: object) -> SimStream:
        """Raises as `meshnode.host.Host.dial` does."""
        if not 1 <= to.port <= 65535:
            raise OSError(errno.EINVAL, f"{to} can't be dialled: port {to.port} is not from 1 to 65535")
        if len(self._streams) > self._streams_max:
            for stream in [stream for stream in self._streams if stream.is_over]:
                del self._streams[stream]
            self._streams_max = max(STREAMS_MIN, 2 * len(self._streams))
        dial = Dial(Address(source, self._free_port(source)), to, owner)
        self._dials[dial] = None
        self.after_delay(dial.local, to, functools.partial(self._knock, dial, self.events.now + DIAL_S))
        try:
            await dial.answered.wait()
        except trio.Cancelled:
            self._abandon(dial)
            raise
        if dial.problem is not None:
            raise dial.problem
        assert dial.stream is not None
        return dial.stream

    def _knock(self, dial: Dial, until_s: float) -> None:
        to = dial.to
        if dial not in self._dials:
            return
        if self.is_dark(dial.local.host, to.host) or to.host in self._hanging:
            if self.events.now < until_s:
                self.events.after(KNOCK_AGAIN_S, functools.partial(self._knock, dial, until_s))
            else:
                self._answer(dial, OSError(errno.ETIMEDOUT, f"connection to {to} timed out"))
            return
        listener = self._listeners.get(to)
        if listener is None or not listener.has_room:
            problem = OSError(errno.ECONNREFUSED, f"connection to {to} refused")
            self.after_delay(to, dial.local, functools.partial(self._answer, dial, problem))
            return
        near, far = SimStream(self, dial.local, to, dial.owner), SimStream(self, to, dial.local, listener.owner)
        near.peer, far.peer = far, near
        self._streams[near] = self._streams[far] = None
        dial.stream = near
        listener.offer(far)
        self.after_delay(to, dial.local, functools.partial(self._answer, dial, None))

    def _answer(self, dial: Dial, problem: OSError | None) -> None:
        if dial in self._dials:
            del self._dials[dial]
            dial.problem = problem
            dial.answered.set()

    def _abandon(self, dial: Dial) -> None:
        """Nobody waits for it any more; it may have been answered already."""
        self._dials.pop(dial, None)
        if dial.stream is not None:
            dial.stream.close()

    def after_delay(self, source: Address, target: Address, action: Callable[[], object]) -> None:
        """Something small crosses the network, sent again until it does, and then ``action`` happens."""
        fate = self.paths.draw(source.host, target.host, "control")
        self.events.after(fate.delay_s, action)

    def tell(self, source: Address, target: Address, action: Callable[[], object]) -> None:
        """Something small is sent once: ``action`` happens if the path is open."""
        fate = self.paths.draw(source.host, target.host, "control")
        if self.can_reach(source.host, target.host) and not self.is_down(source.host):
            self.events.after(fate.delay_s, action)

    def watch(self, stream: SimStream) -> None:
        """The stream wants to know when the path opens."""
        self._watching[stream] = None

    def unwatch(self, stream: SimStream) -> None:
        """It does not want to know any more."""
        self._watching.pop(stream, None)

    # ---- inside

    def _open_paths(self) -> None:
        for stream in list(self._watching):
            source, target = stream.local.host, stream.remote.host
            if stream.is_orphan:
                continue
            if self.can_reach(source, target):
                stream.path_opens()
            if not self.is_dark(source, target):
                self.unwatch(stream)
                stream.acknowledge()

    def _streams_of(self, host: str) -> list[SimStream]:
        return [stream for stream in self._streams if stream.local.host == host]

    def _streams_between(self, one: str, other: str) -> list[SimStream]:
        hosts = {one, other}
        return [
            stream
            for stream in [*self._streams_of(one), *self._streams_of(other)]
            if {stream.local.host, stream.remote.host} == hosts
        ]

    def _bind(self, bind: Address, taken: dict[Address, SimDatagrams] | dict[Address, SimListener]) -> Address:
        if bind.host not in self._hosts:
            raise OperatorError(f"can't bind {bind}: this machine does not have the address. Give one that it has")
        if not 0 <= bind.port <= 65535:
            raise OperatorError(f"can't bind {bind}: port {bind.port} is not from 0 to 65535")
        address = bind
        if not bind.port:
            address = Address(bind.host, self._free_port(bind.host))
            while address in taken:
                address = Address(bind.host, self._free_port(bind.host))
        if address in taken:
            raise AddressInUse(f"{bind} is in use by another process: stop it, or choose another port with --bind")
        return address

    def _free_port(self, host: str) -> int:
        port = self._next_port.get(host, FIRST_FREE_PORT)
        self._next_port[host] = port + 1 if port < 65535 else FIRST_FREE_PORT
        return port
