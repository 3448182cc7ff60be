"""Locks, elections and the configuration, for one process."""

import trio

from meshnode.coordination.commands import BeginSession
from meshnode.coordination.configuration import Configuration
from meshnode.coordination.election import Election
from meshnode.coordination.lock import Locks
from meshnode.coordination.replica import Replica
from meshnode.coordination.session import ProcessSession
from meshnode.host import Host


class Coordinator:
    """What a `Node` or a `Client` has of it.

    Args:
        opening: how this process introduces itself.
    """

    def __init__(self, host: Host, replica: Replica, opening: BeginSession) -> None:
        self.replica = replica
        self._session = ProcessSession(host, replica, opening)
        self.locks = Locks(host, replica, self._session)
        self.configuration = Configuration(host, replica, self._session)

    def election(self, role: str, *, ttl: float) -> Election:
        """See `meshnode.access.Access.election`."""
        return Election(self.locks, self.replica, role, ttl)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        await self._session.run(task_status=task_status)
