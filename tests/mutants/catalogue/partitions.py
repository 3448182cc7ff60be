"""Mistakes in the replication of partitions."""

from tests.mutants.mutant import Edit, Mutant


def _partitions(name: str, wrong: str, *edits: Edit, easy: bool = False, invariants: tuple[str, ...] = ()) -> Mutant:
    return Mutant(
        name=f"partitions-{name}",
        wrong=wrong,
        edits=edits,
        worlds=("partitions",),
        invariants=("partitions-*", *invariants),
        is_easy=easy,
    )


_REPLICA = "meshnode/partitions/replica.py"
_PRIMARY = "meshnode/partitions/primary.py"
_PARTITION = "meshnode/partitions/partition.py"
_TAKEOVER = "meshnode/partitions/takeover.py"
_CONFIRMATION = "meshnode/partitions/confirmation.py"

PARTITIONS = (
    _partitions(
        "no-barrier",
        "A takeover puts no barrier behind the log that it adopted, and commits old records by counting (rule 7).",
        Edit(
            _PRIMARY,
            '        self.barrier, effects = self.propose(b"", now)\n        return effects\n',
            "        effects: list[Effect] = []\n"
            "        for member, progress in self._progress.items():\n"
            "            progress.next = max(1, self._replica.log.last.sequence)\n"
            "            self._feed(member, progress, now, effects)\n"
            "        self._own_matched = self._replica.log.last.sequence\n"
            "        return effects\n",
        ),
        invariants=("liveness",),
    ),
    _partitions(
        "replicas-in-place-of-base",
        "A takeover seals a majority of the new set, and not of the one that has what was acknowledged (rule 7).",
        Edit(_PARTITION, "base=row.base, config=self._config", "base=row.base and row.replicas, config=self._config"),
    ),
    _partitions(
        "promise-not-persisted",
        "A replica promises an epoch and does not write it down (rule 4).",
        Edit(_REPLICA, "        return [Write(Promise(self.partition, epoch))]\n", "        return []\n"),
        easy=True,
    ),
    _partitions(
        "seal-overtakes-the-sync",
        "A seal is answered at once, with what the journal is still writing (rule 4).",
        Edit(
            _REPLICA,
            "return [*self._promise(message.epoch), AfterSync(Send(sender, sealed))]",
            "return [*self._promise(message.epoch), Send(sender, sealed)]",
        ),
        easy=True,
    ),
    _partitions(
        "one-seal",
        "A takeover begins with the first seal, in place of a majority (rule 7).",
        Edit(_TAKEOVER, "if len(self._sealed) < majority(len(self.base)):", "if not self._sealed:"),
    ),
    _partitions(
        "longest-log-adopted",
        "Of the sealed logs the longest one is adopted, whatever its last epoch is.",
        Edit(_TAKEOVER, "        if own >= highest:\n", "        if own.sequence >= highest.sequence:\n"),
        Edit(
            _TAKEOVER,
            "highest = max(others.values(), default=own)",
            "highest = max(others.values(), default=own, key=lambda last: (last.sequence, last.epoch))",
        ),
        invariants=("liveness",),
    ),
    _partitions(
        "own-log-adopted",
        "A takeover goes on with its own log, without fetching what others have more.",
        Edit(_TAKEOVER, "        if own >= highest:\n", "        if own >= highest or own.sequence:\n"),
        easy=True,
    ),
    _partitions(
        "seal-answers-what-is-committed",
        "A sealed replica tells only of what it knows to be committed.",
        Edit(
            _REPLICA,
            "sealed = Sealed(self.partition, message.epoch, self.log.last)",
            "sealed = Sealed(self.partition, message.epoch, self.committed_position)",
        ),
    ),
    _partitions(
        "previous-unchecked",
        "A replica takes records that follow one that it does not have (rule 5).",
        Edit(
            _REPLICA,
            "if not behind_start and not self.log.contains(message.previous):",
            "if not behind_start and message.previous.sequence > self.log.last.sequence:",
        ),
    ),
    _partitions(
        "holes-taken",
        "A replica takes whatever records come, holes included.",
        Edit(
            _REPLICA,
            "if not behind_start and not self.log.contains(message.previous):",
            "if not behind_start and message.previous.sequence < 0:",
        ),
        easy=True,
    ),
    _partitions(
        "repeated-append-truncates",
        "An append that comes late or twice cuts off what was appended after it (rule 5).",
        Edit(_REPLICA, "        news = self.log.news(records)\n", "        news = records\n"),
        easy=True,
    ),
    _partitions(
        "acknowledged-before-sync",
        "A replica acknowledges records that its journal is still writing.",
        Edit(
            _REPLICA,
            "effects.append(AfterSync(Send(sender, appended)))",
            "effects.append(Send(sender, appended))",
        ),
        easy=True,
    ),
    _partitions(
        "commits-past-the-verified-prefix",
        "A replica takes what the primary has committed for committed here, beyond what the message has compared.",
        Edit(
            _REPLICA,
            "effects.extend(self.commit(min(message.committed, matched)))",
            "effects.extend(self.commit(min(message.committed, self.log.last.sequence)))",
        ),
    ),
    _partitions(
        "claim-commits-what-may-differ",
        "A claim of the primary's commits records here that were never compared with its own.",
        Edit(
            _REPLICA,
            "return True, self.commit(min(claim.committed, self._matched))",
            "return True, self.commit(min(claim.committed, self.log.last.sequence))",
        ),
        Edit(_REPLICA, "        if claim.epoch != self.attached:\n            return True, []\n", ""),
    ),
    _partitions(
        "matched-survives-the-epoch",
        "What a replica has compared with one primary's log counts for the next primary's too.",
        Edit(
            _REPLICA,
            "            self.attached = epoch\n            self._matched = 0\n",
            "            self.attached = epoch\n",
        ),
    ),
    _partitions(
        "epoch-kept-across-a-restart",
        "A restarted process goes on as the primary of its earlier life (rule 2).",
        Edit(
            _PARTITION,
            "is_named = row.primary == self._node_id and row.boot == self._boot",
            "is_named = row.primary == self._node_id",
        ),
        Edit(
            _PARTITION,
            "        if is_named and row.phase is Phase.SEALING and may_begin:\n",
            "        if is_named and row.phase is Phase.ACTIVE and may_begin:\n"
            "            self.primary = Primary(\n"
            "                self.replica,\n"
            "                epoch=row.epoch,\n"
            "                node_id=self._node_id,\n"
            "                replicas=row.replicas,\n"
            "                config=self._config,\n"
            "                now=now,\n"
            "            )\n"
            "            effects.extend(self.replica._promise(row.epoch))\n"
            "            effects.extend(self.primary.start(now))\n"
            "            effects.extend(self._serve(row.epoch, now))\n"
            "        elif is_named and row.phase is Phase.SEALING and may_begin:\n",
        ),
        easy=True,
    ),
    _partitions(
        "primary-does-not-yield",
        "A primary that promises a newer epoch to another goes on acting for its own (rule 4).",
        Edit(
            _PARTITION,
            "return self._step_down() if role_epoch is not None and epoch > role_epoch else []",
            "return []",
        ),
        easy=True,
    ),
    _partitions(
        "old-epochs-accepted",
        "A replica takes records of an epoch below the one that it promised (rule 5).",
        Edit(
            _REPLICA,
            '        """Rule 5: take the records if they follow what is here."""\n'
            "        if message.epoch < self.promised:\n"
            "            return [self._refusal(message.epoch, sender)]\n",
            '        """Rule 5: take the records if they follow what is here."""\n',
        ),
        Edit(_REPLICA, "        if epoch == self.promised:\n", "        if epoch <= self.promised:\n"),
        easy=True,
    ),
    _partitions(
        "stale-epochs-counted",
        "A primary counts acknowledgements that were meant for an earlier epoch.",
        Edit(
            _PARTITION,
            "if primary is None or message.epoch != primary.epoch:",
            "if primary is None or (isinstance(message, ChunkTaken) and message.epoch != primary.epoch):",
        ),
    ),
    _partitions(
        "commits-on-one-disk",
        "A record is committed, and its reply leaves, when the primary's own journal has it (rule 6).",
        Edit(
            _PRIMARY,
            "return matched[-majority(len(matched))]",
            "return matched[-1]",
        ),
        easy=True,
    ),
    _partitions(
        "half-is-a-majority",
        "Half of the replicas are enough.",
        Edit(_PRIMARY, "return members // 2 + 1", "return (members + 1) // 2"),
    ),
    _partitions(
        "learners-counted",
        "What a learner has on disk counts towards the majority (rule 6).",
        Edit(
            _PRIMARY,
            "matched = [self._own_matched if member == own else progress[member].matched for member in self.replicas]",
            "matched = [self._own_matched, *[one.matched for one in progress.values()]]",
        ),
        Edit(_PRIMARY, "return matched[-majority(len(matched))]", "return matched[-majority(len(self.replicas))]"),
    ),
    _partitions(
        "commits-before-the-row-is-active",
        "A primary commits what is durable on its replicas although another may take over without asking them.",
        Edit(
            _PRIMARY,
            "if self.is_active and durable > self._replica.committed:",
            "if durable > self._replica.committed:",
        ),
        easy=True,
    ),
    _partitions(
        "activates-before-the-barrier",
        "A takeover asks for its row to become active before the barrier is on a majority of the replicas.",
        Edit(_PARTITION, "is_durable = primary.durable >= primary.barrier", "is_durable = True"),
        easy=True,
    ),
    _partitions(
        "activates-one-record-too-early",
        "A takeover takes what stands before the barrier for enough.",
        Edit(
            _PARTITION,
            "is_durable = primary.durable >= primary.barrier",
            "is_durable = primary.durable >= primary.barrier - 1",
        ),
    ),
    _partitions(
        "copy-deleted-while-sealing",
        "A replica deletes its copy when a new row excludes it, before that row is active (rule 10).",
        Edit(
            _PARTITION,
            "return row.phase is Phase.ACTIVE and self._node_id not in row.replicas",
            "return self._node_id not in row.replicas",
        ),
    ),
    _partitions(
        "copy-deleted-by-an-old-row",
        "A replica deletes its copy by a row that is older than what it has.",
        Edit(
            _PARTITION,
            "return [] if replica.is_empty or row.epoch <= newest else replica.drop()",
            "return [] if replica.is_empty else replica.drop()",
        ),
    ),
    _partitions(
        "deleted-copy-made-again",
        "Records or a state that come late make a copy again that a row has deleted (rule 10).",
        Edit(
            _PARTITION,
            "        return epoch == self._primary_epoch or (row is not None and row.epoch > epoch and self._excludes(row))\n",
            "        return epoch == self._primary_epoch\n",
        ),
    ),
    _partitions(
        "promise-dropped-with-the-copy",
        "A replica that deletes its copy forgets its promise when it restarts (rule 10).",
        Edit(
            _REPLICA,
            "            case Dropped(_, promised):\n                self.promised = max(self.promised, promised)\n",
            "            case Dropped(_, promised):\n                self.promised = Epoch(0)\n",
        ),
    ),
    _partitions(
        "snapshot-forgets-the-promise",
        "A copy of the whole partition in the journal does not say what was promised.",
        Edit(
            _REPLICA,
            "return Snapshot(self.partition, self.promised, self.committed_position, state, records)",
            "return Snapshot(self.partition, self.log.last.epoch, self.committed_position, state, records)",
        ),
    ),
    _partitions(
        "snapshot-loses-the-tail",
        "A copy of the whole partition in the journal leaves out what is not committed yet.",
        Edit(
            _REPLICA,
            "        records = self.log.after(self.committed)\n        return Snapshot(",
            "        records = ()\n        return Snapshot(",
        ),
    ),
    _partitions(
        "snapshot-of-the-uncommitted",
        "A snapshot for another replica claims to be of the whole log, committed or not.",
        Edit(
            _REPLICA,
            "stream = self._outgoing[to] = _Outgoing(self.committed_position, self.machine.snapshot())",
            "stream = self._outgoing[to] = _Outgoing(self.log.last, self.machine.snapshot())",
        ),
    ),
    _partitions(
        "snapshot-keeps-a-foreign-tail",
        "Records behind an installed snapshot stay although they follow another one (rule 5).",
        Edit(
            "meshnode/partitions/log.py",
            "        if self.contains(position):\n            self._delete(0, position",
            "        if self.start.sequence <= position.sequence <= self.last.sequence:\n            self._delete(0, position",
        ),
    ),
    _partitions(
        "snapshot-parts-in-any-order",
        "Parts of a snapshot are put together as they come.",
        Edit(
            _REPLICA,
            "if chunk.offset != self.size or not end <= self.total <= SNAPSHOT_BYTES_MAX:",
            "if not end <= self.total <= SNAPSHOT_BYTES_MAX:",
        ),
    ),
    _partitions(
        "read-unconfirmed",
        "A read is answered although nobody confirmed that there is no newer primary (rule 11).",
        Edit(
            _PRIMARY,
            "while self._reads and self._reads[0][0] <= confirmed and self._reads[0][1] <= self._replica.committed:",
            "while self._reads and self._reads[0][1] <= self._replica.committed:",
        ),
        invariants=("linearizability",),
    ),
    _partitions(
        "read-confirmed-by-an-earlier-question",
        "A read counts a confirmation that was asked for before the read came.",
        Edit(_CONFIRMATION, "        return self._last_round + 1\n", "        return self._last_round\n"),
        invariants=("linearizability",),
    ),
    _partitions(
        "read-before-commit",
        "A read is answered before what it saw is committed.",
        Edit(
            _PRIMARY,
            "while self._reads and self._reads[0][0] <= confirmed and self._reads[0][1] <= self._replica.committed:",
            "while self._reads and self._reads[0][0] <= confirmed:",
        ),
        invariants=("linearizability",),
    ),
    _partitions(
        "replica-confirms-anything",
        "A replica confirms a primary's epoch although it has promised a newer one (rule 11).",
        Edit(_REPLICA, "        if claim.epoch < self.promised:\n            return False, []\n", ""),
        invariants=("linearizability",),
    ),
    _partitions(
        "lease-from-the-answer",
        "A lease is counted from when the answer came, and not from when the question left (rule 12).",
        Edit(
            _CONFIRMATION,
            "Confirmation(claim.partition, claim.epoch, message.round, asked_at_s, denied.get(claim.partition))",
            "Confirmation(claim.partition, claim.epoch, message.round, now, denied.get(claim.partition))",
        ),
    ),
    _partitions(
        "lease-by-one-replica",
        "One replica that confirms is enough for the lease.",
        Edit(
            _PRIMARY,
            'return sorted([float("inf"), *asked], reverse=True)[majority(len(self.replicas)) - 1] + self._config.lease_s',
            'return sorted([float("inf"), *asked], reverse=True)[min(1, len(self.replicas) - 1)] + self._config.lease_s',
        ),
    ),
    _partitions(
        "lease-for-ever",
        "A primary that was confirmed once may start turns for ever.",
        Edit(
            "meshnode/partitions/core.py",
            "return primary is not None and primary.lease_until > now",
            "return primary is not None and primary.lease_until > 0",
        ),
    ),
    _partitions(
        "silence-not-repeated",
        "What a replica did not answer is not sent again.",
        Edit(
            _PRIMARY,
            "            if now < due_s or not progress.is_waiting:\n",
            "            if now < due_s or progress.snapshot_at is None:\n",
        ),
        Edit(
            _PRIMARY,
            "if due_s < earliest_s and progress.is_waiting:",
            "if due_s < earliest_s and progress.snapshot_at is not None:",
        ),
        Edit(
            _PRIMARY,
            "            position = progress.snapshot_at\n            if position is not None:\n",
            "            position = progress.snapshot_at\n"
            "            if now < progress.answered_at_s + self._config.resend_after_s:\n"
            "                continue\n"
            "            if position is not None:\n",
        ),
        invariants=("liveness",),
    ),
)
