"""Mistakes in the metadata, and in what their leader does with the rows."""

from tests.mutants.mutant import Edit, Mutant

_STATE = "meshnode/metadata/state.py"
_ALLOCATOR = "meshnode/metadata/allocator.py"


def _metadata(
    name: str,
    wrong: str,
    *edits: Edit,
    worlds: tuple[str, ...] = ("partitions",),
    easy: bool = False,
    invariants: tuple[str, ...] = ("partitions-*", "liveness*"),
) -> Mutant:
    return Mutant(name=f"metadata-{name}", wrong=wrong, edits=edits, worlds=worlds, invariants=invariants, is_easy=easy)


METADATA = (
    _metadata(
        "begin-changes-base",
        "A row that begins anew takes its last replicas for the base, active or not (rule 1).",
        Edit(
            _STATE,
            "base = () if row is None else row.base",
            "base = () if row is None else row.replicas",
        ),
        easy=True,
    ),
    _metadata(
        "activation-keeps-base",
        "A row that becomes active keeps the base of the epoch before.",
        Edit(
            _STATE,
            "replace(row, phase=Phase.ACTIVE, base=row.replicas)",
            "replace(row, phase=Phase.ACTIVE, base=row.base or row.replicas)",
        ),
    ),
    _metadata(
        "epoch-not-raised",
        "A row that begins anew while it is being sealed keeps its epoch.",
        Edit(
            _STATE,
            "epoch = Epoch(max(change.epoch, self.generation << GENERATION_SHIFT) + 1)",
            "epoch = Epoch(max(change.epoch, self.generation << GENERATION_SHIFT) + (change.phase is Phase.ACTIVE))",
        ),
        easy=True,
    ),
    _metadata(
        "changes-compare-the-epoch-alone",
        "A change of a row does not compare the phase: a late one undoes an activation.",
        Edit(
            _STATE,
            "        if (change.epoch, change.phase) != held:\n",
            "        if change.epoch != held[0]:\n",
        ),
        Edit(
            _STATE,
            "                if row is None or row.phase is not Phase.SEALING:\n",
            "                if row is None:\n",
        ),
    ),
    _metadata(
        "changes-do-not-compare",
        "A change of a row is made whatever the row is by now.",
        Edit(
            _STATE,
            "        if (change.epoch, change.phase) != held:\n",
            "        if change.epoch > held[0]:\n",
        ),
        Edit(
            _STATE,
            "epoch = Epoch(max(change.epoch, self.generation << GENERATION_SHIFT) + 1)",
            "epoch = Epoch(max(change.epoch, held[0], self.generation << GENERATION_SHIFT) + 1)",
        ),
        Edit(_STATE, "return self._begin(change, row)", "return self._begin(change, row, held)"),
        Edit(
            _STATE,
            "def _begin(self, change: RowChange, row: Row | None) -> Outcome:",
            "def _begin(self, change: RowChange, row: Row | None, held: tuple[Epoch, Phase]) -> Outcome:",
        ),
    ),
    _metadata(
        "restarted-primary-not-replaced",
        "The leader takes a new process of a primary's node for the primary.",
        Edit(
            _ALLOCATOR,
            "is_orphan = (row.primary, row.boot) not in processes",
            "is_orphan = row.primary not in live",
        ),
        easy=True,
    ),
    _metadata(
        "old-boot-registered",
        "A registration is taken although its process is not newer than the one that is registered (rule 2).",
        Edit(
            _STATE,
            "if known is not None and (command.boot <= known.boot or command.start.is_over(known.start)):",
            "if known is not None and command.boot < known.boot - 1:",
        ),
        worlds=(),
        invariants=("partitions-*", "linearizability", "liveness*", "requests-*"),
    ),
    _metadata(
        "applied-before-committed",
        "A node applies what its log holds, before a quorum has it.",
        Edit(
            "consensus/log.py",
            "return self.committed if self._applies_unstable else min(self.committed, self.offset - 1)",
            "return self.offset - 1",
        ),
        Edit(
            "consensus/log.py",
            "assert self.applied <= index <= self.committed,",
            "assert self.applied <= index,",
        ),
        worlds=("raft",),
        easy=True,
        invariants=("raft-*",),
    ),
)
