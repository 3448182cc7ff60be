"""Mistakes in partitions of the kinds in `partitions`, at other places."""

from tests.mutants.catalogue.partitions import _CONFIRMATION, _PARTITION, _PRIMARY, _REPLICA, _TAKEOVER, _partitions
from tests.mutants.mutant import Edit

VARIANTS_OF_PARTITIONS = (
    _partitions(
        "append-does-not-promise",
        "A replica takes records of a new epoch without promising it (rule 5).",
        Edit(
            _REPLICA,
            "            return []\n        effects = self._promise(message.epoch)\n        if self._outgoing",
            "            return []\n        effects: list[Effect] = []\n        if self._outgoing",
        ),
    ),
    _partitions(
        "append-promise-only-in-memory",
        "The promise that comes with an append is not written down (rule 5).",
        Edit(
            _REPLICA,
            "            return []\n        effects = self._promise(message.epoch)\n        if self._outgoing",
            "            return []\n        self._promise(message.epoch)\n        effects: list[Effect] = []\n        if self._outgoing",
        ),
    ),
    _partitions(
        "chunk-promise-only-in-memory",
        "The promise that comes with a snapshot is not written down.",
        Edit(
            _REPLICA,
            "        effects = self._promise(message.epoch)\n        if message.position",
            "        self._promise(message.epoch)\n        effects: list[Effect] = []\n        if message.position",
        ),
    ),
    _partitions(
        "fetched-records-not-written",
        "What a takeover fetches is taken into memory and not written to the journal.",
        Edit(
            _TAKEOVER,
            "return [*replica.adopt(message.records), *self._choose_source(now)]",
            "replica.adopt(message.records)\n        return self._choose_source(now)",
        ),
    ),
    _partitions(
        "fetched-previous-unchecked",
        "A takeover takes what it fetched without looking whether it follows what it has.",
        Edit(
            _TAKEOVER,
            "if not replica.log.contains(message.previous):",
            "if message.previous.sequence > replica.log.last.sequence:",
        ),
    ),
    _partitions(
        "seal-answers-counted-twice",
        "A takeover counts answers to its seals, and not who gave them: one that is repeated counts twice.",
        Edit(
            _TAKEOVER,
            "        self._sealed: dict[NodeId, Position] = {}\n",
            "        self._sealed: dict[NodeId, Position] = {}\n        self._answers = 0\n",
        ),
        Edit(
            _TAKEOVER,
            "        self._sealed[sender] = message.last\n",
            "        self._sealed[sender] = message.last\n        self._answers += 1\n",
        ),
        Edit(
            _TAKEOVER,
            "if len(self._sealed) < majority(len(self.base)):",
            "if self._answers < majority(len(self.base)):",
        ),
    ),
    _partitions(
        "stale-seals-counted",
        "Answers to the seals of an earlier takeover count in this one.",
        Edit(
            _PARTITION,
            "if self.takeover is None or message.epoch != self.takeover.epoch:\n            return []\n        if isinstance(message, Sealed)",
            "if self.takeover is None or message.epoch > self.takeover.epoch:\n            return []\n        if isinstance(message, Sealed)",
        ),
    ),
    _partitions(
        "majority-of-the-new-size",
        "A takeover seals as many of the old set as are a majority of the new one.",
        Edit(
            _PARTITION,
            "            effects.extend(self.takeover.start(now))\n",
            "            self.takeover.size = len(row.replicas)\n            effects.extend(self.takeover.start(now))\n",
        ),
        Edit(
            _TAKEOVER, "if len(self._sealed) < majority(len(self.base)):", "if len(self._sealed) < majority(self.size):"
        ),
    ),
    _partitions(
        "silent-source-still-counted",
        "A replica that fell silent is not asked any more, and its log is left out of the takeover all the same.",
        Edit(_TAKEOVER, "        del self._sealed[self._source]\n", "        self._sealed[self._source] = ORIGIN\n"),
    ),
    _partitions(
        "primary-counts-itself-before-sync",
        "A primary counts its own copy of a record when it is queued.",
        Edit(_PRIMARY, "AfterSync(Send(self._node_id, own))]", "Send(self._node_id, own)]"),
    ),
    _partitions(
        "refusal-before-sync",
        "A replica names a promise that is not on its disk yet.",
        Edit(
            _REPLICA,
            "return AfterSync(Send(sender, Refused(self.partition, epoch, self.promised, self.log.last)))",
            "return Send(sender, Refused(self.partition, epoch, self.promised, self.log.last))",
        ),
    ),
    _partitions(
        "denial-ignored",
        "A primary takes any answer to its claim for a confirmation.",
        Edit(
            _PARTITION,
            "        if answer.promised is not None:\n            return self._yield_to(answer.promised)\n",
            "",
        ),
    ),
    _partitions(
        "confirmation-of-another-epoch",
        "What was confirmed of an earlier epoch counts for this one.",
        Edit(_PARTITION, "if primary is None or primary.epoch != answer.epoch:", "if primary is None:"),
    ),
    _partitions(
        "rounds-begin-anew",
        "The rounds of a restarted process have the numbers of its earlier life's.",
        Edit(_CONFIRMATION, "self._last_round = boot << BOOT_SHIFT", "self._last_round = 0 * boot"),
    ),
    _partitions(
        "old-snapshot-installed",
        "A snapshot that comes late replaces a state that is further on.",
        Edit(
            _REPLICA,
            "if message.position.sequence <= self.committed:",
            "if message.position == self.committed_position:",
        ),
    ),
    _partitions(
        "no-barrier-for-an-empty-log",
        "A takeover of an empty log puts no barrier into it.",
        Edit(
            _PRIMARY,
            '        self.barrier, effects = self.propose(b"", now)\n',
            "        if not self._replica.log.last.sequence:\n            return []\n"
            '        self.barrier, effects = self.propose(b"", now)\n',
        ),
    ),
    _partitions(
        "barrier-committed-before-activation",
        "A takeover begins to serve what it adopted before the row is active.",
        Edit(
            _PRIMARY,
            "        self.is_active = False\n        self.learners",
            "        self.is_active = True\n        self.learners",
        ),
    ),
    _partitions(
        "replacements-lost-at-restart",
        "A restart leaves out records in the journal that took the place of others.",
        Edit(
            _REPLICA,
            "                if records[0].sequence <= self.log.last.sequence + 1:\n",
            "                if records[0].sequence <= self.log.last.sequence:\n                    pass\n"
            "                elif records[0].sequence == self.log.last.sequence + 1:\n",
        ),
    ),
    _partitions(
        "snapshot-installed-in-memory-only",
        "A snapshot that was received is not written to the journal.",
        Edit(_REPLICA, "            effects.append(Write(self._copy_with(state)))\n", ""),
    ),
    _partitions(
        "takeover-of-an-older-row",
        "A process takes over by a row that is older than what it has promised.",
        Edit(
            _PARTITION,
            " and row.epoch > self._deposed_epoch and row.epoch >= self.replica.promised",
            "",
        ),
    ),
    _partitions(
        "deleted-copy-keeps-its-state",
        "A copy that is deleted leaves its state behind for the next one.",
        Edit(_REPLICA, '        self.machine.restore(b"")\n', ""),
    ),
    _partitions(
        "snapshot-taken-before-sync",
        "A replica says that it has a snapshot which its journal is still writing.",
        Edit(
            _REPLICA,
            "return [*effects, AfterSync(Send(sender, taken))]",
            "return [*effects, Send(sender, taken)]",
        ),
    ),
    _partitions(
        "lack-told-before-sync",
        "A replica that lacks what comes before says so with a promise that is not on its disk yet.",
        Edit(
            _REPLICA,
            "        return AfterSync(Send(sender, refused))\n",
            "        return Send(sender, refused)\n",
        ),
    ),
    _partitions(
        "outsider-seals-for-itself",
        "A new primary that is none of the old set counts its own seal.",
        Edit(
            _TAKEOVER,
            "if sender not in self.base or self.stage is Stage.ADOPTED:",
            "if self.stage is Stage.ADOPTED:",
        ),
    ),
    _partitions(
        "deletion-forgotten-at-restart",
        "A restart finds the records of a copy that was deleted.",
        Edit(
            _REPLICA,
            "                self._clear()\n                self.is_whole = True\n",
            "                self.is_whole = True\n",
        ),
    ),
    _partitions(
        "files-of-others-deleted",
        "The journal keeps the files that the partition needs which was copied last.",
        Edit(
            "meshnode/partitions/retention.py",
            "return min(self._needed_from.values(), default=None)",
            "return max(self._needed_from.values(), default=None)",
        ),
    ),
    _partitions(
        "uncommitted-records-let-go",
        "Old records go from memory whether or not they are committed.",
        Edit(
            "meshnode/partitions/log.py",
            "while self.start.sequence + count < through and (",
            "while count < len(self._records) and (",
        ),
    ),
    _partitions(
        "snapshot-vouches-for-its-tail",
        "What a replica has behind an installed snapshot counts as compared with the primary's log.",
        Edit(
            _REPLICA,
            "self.attach(message.epoch, message.position.sequence)",
            "self.attach(message.epoch, self.log.last.sequence)",
        ),
    ),
)
