"""Mistakes in what runs the core: its writer, what waits for the disk, and who waits for an outcome."""

from tests.mutants.mutant import Edit, Mutant

_OUTBOX = "consensus/outbox.py"
_WRITER = "consensus/writer.py"
_READERS = "consensus/readers.py"


def _driver(
    name: str, wrong: str, *edits: Edit, easy: bool = False, invariants: tuple[str, ...] = ("raft-*",)
) -> Mutant:
    return Mutant(name=f"driver-{name}", wrong=wrong, edits=edits, invariants=invariants, is_easy=easy)


def _reads(name: str, wrong: str, *edits: Edit) -> Mutant:
    return Mutant(
        name=f"driver-reads-{name}",
        wrong=wrong,
        edits=edits,
        workloads=("config",),
        invariants=("linearizability", "exactly-once-*"),
    )


DRIVER = (
    _driver(
        "sends-before-sync",
        "Work counts as durable before the sync.",
        Edit(
            _WRITER,
            "            if must_sync and not self._syncs.at_once(self._log.sync):\n"
            "                self._batch = batch\n"
            "                self._elsewhere()\n"
            "                return False\n",
            "            for work in batch:\n"
            "                self._done(work)\n"
            "            if must_sync and not self._syncs.at_once(self._log.sync):\n"
            "                self._elsewhere()\n"
            "            return True\n",
        ),
    ),
    _driver(
        "skips-the-sync",
        "Work without entries is not synced, whatever it promises.",
        Edit(
            _WRITER,
            "must_sync = must_sync or work.must_sync or work.snapshot is not None",
            "must_sync = must_sync or bool(work.entries)",
        ),
    ),
    _driver(
        "last-work-decides",
        "Whether a batch is synced is decided by its last piece of work alone.",
        Edit(
            _WRITER,
            "must_sync = must_sync or work.must_sync or work.snapshot is not None",
            "must_sync = work.must_sync",
        ),
    ),
    _driver(
        "work-overtakes-a-sync",
        "Work that needs no sync is done at once, although work before it is being synced.",
        Edit(
            _WRITER,
            "        waiting = self._waiting\n        if _only",
            "        if not work.must_sync and work.snapshot is None:\n"
            "            self._log.append(work.hard_state, work.entries)\n"
            "            self._done(work)\n"
            "            return\n"
            "        waiting = self._waiting\n        if _only",
        ),
    ),
    _driver(
        "gathered-work-is-done",
        "What gathered during a sync counts as durable with it.",
        Edit(
            _WRITER,
            "            batch, self._batch, self._is_synced = self._batch, [], False\n",
            "            for work in self._waiting:\n"
            "                self._log.append(work.hard_state, work.entries, work.snapshot)\n"
            "            batch, self._batch, self._is_synced = self._batch + self._waiting, [], False\n"
            "            self._waiting = []\n",
        ),
        invariants=("raft-*", "liveness*"),
    ),
    _driver(
        "forgets-what-is-being-synced",
        "A sync begins although another one is under way, and only the work of the later one is reported.",
        Edit(_WRITER, "        elif self._batch or not self._waiting:\n", "        elif not self._waiting:\n"),
        invariants=("raft-*", "liveness*"),
    ),
    _driver(
        "hard-state-is-not-written",
        "Term and vote are written only together with entries.",
        Edit(
            _WRITER,
            "self._log.append(work.hard_state, work.entries, work.snapshot)",
            "self._log.append(work.hard_state if work.entries else None, work.entries, work.snapshot)",
        ),
    ),
    _driver(
        "goes-on-after-a-failed-sync",
        "A failed sync is taken for a short trouble.",
        Edit(_WRITER, "self._syncs.at_once(self._log.sync)", "self._syncs.at_once(self.try_to_sync)"),
        Edit(
            _WRITER,
            "    def synced(self) -> None:\n",
            "    def try_to_sync(self) -> None:\n"
            "        try:\n"
            "            self._log.sync()\n"
            "        except Exception:\n"
            "            self._log._failure = None\n"
            "\n"
            "    def synced(self) -> None:\n",
        ),
        Edit("consensus/driver.py", "self._syncs(self._log.sync)", "self._syncs(self._engine._writer.try_to_sync)"),
        invariants=("raft-*", "disk-*", "liveness*"),
    ),
    _driver(
        "names-a-term-that-it-may-forget",
        "Messages leave while the disk does not have the term that they name.",
        Edit(_OUTBOX, "        if self._promise is None:\n", "        if True:\n"),
        easy=True,
    ),
    _driver(
        "leads-on-while-its-disk-hangs",
        "A leader whose disk hangs keeps the lead.",
        Edit("consensus/engine.py", "            self.raft.hand_over(now)\n", "            pass\n"),
        invariants=("liveness*",),
    ),
    Mutant(
        name="driver-what-a-snapshot-brought-is-said-to-be-dropped",
        wrong="A proposal that was not applied when a later term is has been dropped, whatever a snapshot stood for.",
        edits=(Edit("consensus/applier.py", "        self._proposals.skipped(term)\n", ""),),
        workloads=("config", "locks"),
        invariants=("linearizability", "exactly-once-*", "locks-*"),
    ),
    _reads(
        "before-applied",
        "A read is answered before its index is applied here.",
        Edit(_READERS, "            reader.index = state.index\n", "            reader.index = 0\n"),
    ),
    _reads(
        "join-the-question-under-way",
        "A read that comes while a question is under way takes its answer.",
        Edit(_READERS, "        self._unasked.append(reader)\n", "        self._asked.append(reader)\n"),
    ),
    _reads(
        "take-any-answer",
        "The answer to a question that was asked again counts for reads that came after it.",
        Edit(
            _READERS,
            "        while self._asked and self._asked[0].request <= state.request:\n",
            "        while self._asked:\n",
        ),
    ),
)
