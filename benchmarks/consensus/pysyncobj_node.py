"""One node of PySyncObj, for the peers' environment: `python -m benchmarks.consensus.pysyncobj_node SETTINGS`.

It prints "leader" or "follower" for each line "role" that it reads, and a `Load` as JSON for each line
"OUTSTANDING BUDGET_S". The load is made here, by callbacks, since PySyncObj has no protocol for clients.
"""

import importlib
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

from benchmarks.consensus.client import VALUE_BYTES, WARM_UP_S, Load, keys


def store(settings: dict[str, Any]) -> Any:
    """A replicated dictionary with a journal, everything else at its default: the journal is never synced."""
    pysyncobj: Any = importlib.import_module("pysyncobj")

    class Store(pysyncobj.SyncObj):  # type: ignore[misc]
        def __init__(self) -> None:
            configuration = pysyncobj.SyncObjConf(journalFile=settings["journal"])
            super().__init__(settings["address"], settings["partners"], configuration)
            self._values: dict[bytes, bytes] = {}

        @pysyncobj.replicated  # type: ignore[untyped-decorator]
        def put(self, key: bytes, value: bytes) -> None:
            self._values[key] = value

    return Store()


def measure(target: Any, *, outstanding: int, budget_s: float) -> Load:
    """Keep so many writes outstanding for the time, after a while to warm up."""
    source, value = keys(), os.urandom(VALUE_BYTES)
    begin = time.perf_counter() + WARM_UP_S
    end = begin + budget_s
    latencies: list[float] = []
    answered = 0
    over = threading.Event()

    def ask() -> None:
        asked = time.perf_counter()

        def done(_result: object, error: int) -> None:
            nonlocal answered
            now = time.perf_counter()
            answered += 1
            if error:
                raise RuntimeError(f"PySyncObj failed a write: {error}")
            if begin <= now < end:
                latencies.append(now - asked)
            if now < end:
                ask()
            else:
                over.set()

        target.put(next(source), value, callback=done)

    for _ in range(outstanding):
        ask()
    over.wait()
    latencies.sort()
    count = len(latencies)
    return Load(answered, count / budget_s, 1e3 * latencies[count // 2], 1e3 * latencies[count * 99 // 100], 0.0)


def main() -> None:
    """Until the standard input ends."""
    target = store(json.loads(sys.argv[1]))
    for line in sys.stdin:
        if line.strip() == "role":
            status = target.getStatus()
            answer = "leader" if status["leader"] == status["self"] else "follower"
        else:
            outstanding, budget_s = line.split()
            answer = json.dumps(asdict(measure(target, outstanding=int(outstanding), budget_s=float(budget_s))))
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
