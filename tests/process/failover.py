"""How long it takes until all agents answer again after a node was killed: ``python -m tests.process.failover``.

Five nodes at default settings serve 500 agents, each called about once a second. In each round a random node is killed;
the time runs until every agent has acknowledged an operation that was begun after the kill. Then the node starts again,
and the next round begins when the mesh has settled. At the end everything that was acknowledged is looked for.
"""

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio

from meshnode.placement import PARTITIONS_DEFAULT
from tests.process.cluster import Cluster
from tests.process.workload import Workload

NODES = 5

SETTLE_TIMEOUT_S = 120.0


async def measure(rounds: int, *, agents: int, seed: int) -> list[float]:
    """Seconds from the kill until all agents answer, one for each round."""
    rng = random.Random(seed)
    times_s = []
    with tempfile.TemporaryDirectory(prefix="meshnode-failover-") as root:
        cluster = Cluster(Path(root), partitions=PARTITIONS_DEFAULT)
        try:
            await cluster.form(NODES)
            async with cluster.client() as client:
                workload = Workload(client, agents=agents, writers=1, interval_s=1.0, timeout_s=60.0)
                async with workload.running():
                    for number in range(rounds):
                        victim = rng.choice(cluster.nodes)
                        role = "leader" if await cluster.leader() is victim else "follower"
                        victim.kill()
                        times_s.append(await workload.all_answer(within_s=60.0))
                        _print(f"round {number + 1}: {victim.name} ({role}) killed, {times_s[-1]:.2f} s")
                        victim.start()
                        await cluster.settled(timeout_s=SETTLE_TIMEOUT_S)
                        await workload.all_answer()
                await workload.verify()
                _print(f"{workload.acknowledged} operations acknowledged, none lost, none doubled")
        finally:
            cluster.close()
    return times_s


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.process.failover", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="chooses the victims")
    given = parser.parse_args(arguments)
    times_s = sorted(trio.run(lambda: measure(given.rounds, agents=given.agents, seed=given.seed)))
    quarters = statistics.quantiles(times_s, n=4) if len(times_s) > 1 else [times_s[0]] * 3
    _print(
        f"all agents answer again after: min {times_s[0]:.2f}, quarter {quarters[0]:.2f}, median {quarters[1]:.2f}, "
        f"three quarters {quarters[2]:.2f}, max {times_s[-1]:.2f} s ({len(times_s)} rounds)"
    )


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
