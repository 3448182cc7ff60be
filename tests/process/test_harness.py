"""The harness itself: it leaves nothing behind, and its workload notices what it is there to notice."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.process.cluster import Cluster, until
from tests.process.counters import TallyAgent
from tests.process.ports import ReservedPort
from tests.process.processes import REPOSITORY
from tests.process.workload import Workload

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

ORPHAN_MAKER = """
import sys, time
from pathlib import Path
from tests.process.processes import NodeProcess
node = NodeProcess(Path(sys.argv[1]), "n0", "--found", application=None)
node.start()
print(node._process.pid, flush=True)
time.sleep(60)
"""


def test_a_node_dies_with_the_tests_even_when_those_are_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHAN_MAKER, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        node = int(tests.stdout.readline())
        assert _is_alive(node)
        tests.kill()
    give_up_at_s = time.monotonic() + 10
    while _is_alive(node):
        assert time.monotonic() < give_up_at_s
        time.sleep(0.02)


def test_reserved_ports_differ() -> None:
    ports = [ReservedPort() for _ in range(50)]
    assert len({port.number for port in ports}) == 50
    for port in ports:
        port.release()


async def test_the_workload_notices_what_is_lost_doubled_or_done_against_its_word(cluster: Cluster) -> None:
    await cluster.form(1)
    async with cluster.client() as client:
        workload = Workload(client, agents=3)
        async with workload.running():
            pass
        await workload.verify()
        lost, doubled, refused = workload.ledgers
        lost.acknowledged.add(60_000)
        await client.ref(TallyAgent, doubled.key).record(min(doubled.acknowledged))
        refused.refused.add(60_001)
        await client.ref(TallyAgent, refused.key).record(60_001)
        for ledger, finding in [
            (lost, "lost the acknowledged operations \\[60000\\]"),
            (doubled, "took 1 operations twice"),
            (refused, "took operations that were refused: \\[60001\\]"),
        ]:
            workload.ledgers = [ledger]
            with pytest.raises(AssertionError, match=finding):
                await workload.verify()


async def test_waiting_ends_with_what_was_last_seen() -> None:
    async def never() -> str:
        return ""

    with pytest.raises(AssertionError, match=r"a miracle: not within 0.2 s; the last answer was ''"):
        await until(never, "a miracle", timeout_s=0.2)


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(") ")[2][0] != "Z"
