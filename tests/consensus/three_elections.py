"""Three members of a pyraft ensemble elect a leader: for the peers' environment, which has the package.

``python -m tests.consensus.three_elections PORT PORT PORT`` prints who leads, once all three agree.
"""

import sys

import trio

from consensus.leader_election import LeaderElection
from consensus.pyraft import PyraftElection


async def main(ports: list[int]) -> None:
    addresses = {node: f"127.0.0.1:{port}" for node, port in enumerate(ports, start=1)}
    members: dict[int, LeaderElection] = {node: PyraftElection(node, addresses) for node in addresses}
    async with trio.open_nursery() as nursery:
        for member in members.values():
            await nursery.start(member.run)
        with trio.fail_after(40):
            while len(seen := {member.leader for member in members.values()}) > 1 or 0 in seen:
                await trio.sleep(0.1)
            (leader,) = seen
            await members[leader].until_leader()
        sys.stdout.write(f"{leader}\n")
        nursery.cancel_scope.cancel()


trio.run(main, [int(port) for port in sys.argv[1:]])
