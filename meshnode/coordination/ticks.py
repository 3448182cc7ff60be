"""Has the leader of the Raft group count the state machine's time."""

import contextlib
from typing import Protocol

from meshnode.coordination.commands import Tick
from meshnode.coordination.state import Coordination
from meshnode.coordination.ticking import INTERVAL_S, Ticker
from meshnode.errors import OutcomeUnknown, Unavailable
from meshnode.host import Host


class Group(Protocol):
    """What it takes of the Raft group: `meshnode.metadata.group.MetadataGroup`."""

    @property
    def is_leader(self) -> bool: ...

    @property
    def term(self) -> int: ...

    async def until_leader(self) -> None: ...

    async def agree(self, command: Tick, timeout_s: float) -> object: ...


async def keep_ticking(host: Host, group: Group, state: Coordination) -> None:
    """Until cancelled; see `meshnode.coordination.ticking`."""
    ticker = Ticker()
    while True:
        await group.until_leader()
        while group.is_leader:
            made_at_s = host.now()
            if state.has_deadlines:
                with contextlib.suppress(Unavailable, OutcomeUnknown):  # it makes each TTL longer
                    await group.agree(ticker.tick(group.term, made_at_s), INTERVAL_S)
            else:
                ticker.rest()
            await host.sleep_until(made_at_s + INTERVAL_S)
        ticker.rest()
