"""Mistakes in locks, elections and the replicated configuration, and in how their time is counted."""

from tests.mutants.mutant import Edit, Mutant

_ROOM = "meshnode/coordination/"
_QUEUES = f"{_ROOM}queues.py"
_SESSIONS = f"{_ROOM}sessions.py"
_STATE = f"{_ROOM}state.py"
_STORE = f"{_ROOM}store.py"
_SESSION = f"{_ROOM}session.py"
_REPLICA = f"{_ROOM}replica.py"


def _locks(
    name: str, wrong: str, *edits: Edit, invariants: tuple[str, ...] = ("locks-*",), easy: bool = False
) -> Mutant:
    return Mutant(
        name=f"locks-{name}", wrong=wrong, edits=edits, workloads=("locks",), invariants=invariants, is_easy=easy
    )


def _config(name: str, wrong: str, *edits: Edit, invariants: tuple[str, ...], easy: bool = False) -> Mutant:
    return Mutant(
        name=f"config-{name}", wrong=wrong, edits=edits, workloads=("config",), invariants=invariants, is_easy=easy
    )


LOCKS = (
    _locks(
        "granted-where-one-name-is-free",
        "A claim of several names is granted when it is the first for one of them.",
        Edit(
            _QUEUES,
            "return all(next(iter(self._queues[name])) == claim.key for name in claim.names)",
            "return any(next(iter(self._queues[name])) == claim.key for name in claim.names)",
        ),
        easy=True,
    ),
    _locks(
        "last-come-first-served",
        "A lock that is released goes to the one who asked last.",
        Edit(
            _QUEUES,
            "first = next(iter(self._queues[name].values()), None)",
            "first = next(reversed(self._queues[name].values()), None)",
        ),
        Edit(
            _QUEUES,
            "return all(next(iter(self._queues[name])) == claim.key for name in claim.names)",
            "return not any(other.token for name in claim.names for other in self._queues[name].values())",
        ),
        easy=True,
    ),
    _locks(
        "successor-not-granted",
        "Whoever waits is granted the lock when somebody else asks for it, and not when it is released.",
        Edit(
            _QUEUES,
            "                freed[name] = None\n        self._grant(freed, stamp)\n",
            "                freed[name] = None\n",
        ),
        easy=True,
    ),
    _locks(
        "token-of-the-session",
        "The fencing token is that of the holder's session, the same for all that it ever holds.",
        Edit(_QUEUES, "first.token = stamp", "first.token = first.session"),
        easy=True,
    ),
    _locks(
        "deadline-without-allowance",
        "A TTL does not allow for the first tick, which counts what passed before it began.",
        Edit(
            _STATE,
            "deadline_ms = self.now_ms + ttl_ms + bounds.TICK_MS_MAX\n        self._next",
            "deadline_ms = self.now_ms + ttl_ms\n        self._next",
        ),
    ),
    _locks(
        "holder-adds-up-ttls",
        "A holder takes a renewal for a TTL on top of the one that is running.",
        Edit(
            _SESSION,
            "max(self.held_until_s, sent_at_s + self.ttl_s * (1 - CLOCK_ERROR))",
            "max(self.held_until_s, sent_at_s) + self.ttl_s * (1 - CLOCK_ERROR)",
        ),
    ),
    _locks(
        "holder-never-lets-go",
        "A holder that can't renew its lock goes on until it hears that it is lost.",
        Edit(_SESSION, "                nursery.start_soon(claim.lapse)\n", ""),
    ),
    _locks(
        "released-claim-stays-in-the-queue",
        "A claim of several names that is given up stays in the queue of all but the first.",
        Edit(
            _QUEUES,
            "            for name in claim.names:\n                del self._queues[name][claim.key]\n",
            "            for name in claim.names[:1]:\n                del self._queues[name][claim.key]\n",
        ),
        easy=True,
    ),
    _locks(
        "outstanding-requests-count-as-answered",
        "A process says that a request was answered while another task still waits for its answer.",
        Edit(_SESSION, "return min(self._open, default=self._last + 1)", "return self._last"),
    ),
    _config(
        "time-counted-twice",
        "The leader counts the time since its first tick, and not since the last one; and no tick has a bound.",
        Edit(
            f"{_ROOM}ticking.py",
            "        self._made_at_s = now\n",
            "        self._made_at_s = now if not elapsed_ms else self._made_at_s\n",
        ),
        Edit(f"{_ROOM}ticking.py", "min(elapsed_ms, TICK_MS_MAX)", "elapsed_ms"),
        Edit(_STATE, "min(max(tick.elapsed_ms, 0), bounds.TICK_MS_MAX)", "max(tick.elapsed_ms, 0)"),
        invariants=("config-ttl",),
    ),
    _config(
        "replies-not-kept",
        "A request that is proposed again takes effect again.",
        Edit(_SESSIONS, "        session.replies[number] = encoded\n", ""),
        invariants=("exactly-once-*", "linearizability", "watch-*"),
    ),
    _config(
        "late-copies-take-effect",
        "A request that comes late, when it was answered long ago, takes effect again.",
        Edit(_SESSIONS, "        if request.number < session.answered:\n            return LATE\n", ""),
        invariants=("exactly-once-*", "linearizability", "watch-*"),
    ),
    _config(
        "unknown-told-as-refused",
        "A client that does not hear from a node in time says that nothing was changed.",
        Edit(_REPLICA, "raise OutcomeUnknown(str(error)) from error", "raise"),
        invariants=("exactly-once-*", "linearizability", "watch-*"),
    ),
    _config(
        "reads-not-fresh",
        "A read is answered from what the asked node has, however old that is.",
        Edit(_REPLICA, "        if fresh:\n            await self._catch_up()\n", ""),
        invariants=("linearizability",),
    ),
    _config(
        "absent-key-has-any-value",
        "A condition on the value of a key that is not there holds.",
        Edit(_STORE, "return compare.relation is Relation.NOT_EQUAL", "return compare.relation is Relation.EQUAL"),
        invariants=("linearizability",),
        easy=True,
    ),
    _config(
        "transaction-shows-its-last-change-only",
        "Of the changes of a transaction those who watch see the last one.",
        Edit(_STORE, "kept = Revision(stamp, tuple(changes))", "kept = Revision(stamp, tuple(changes[-1:]))"),
        invariants=("watch-*",),
        easy=True,
    ),
    _config(
        "watch-repeats-a-revision",
        "A watch begins with the revision after which it is to begin.",
        Edit(_STORE, "bisect.bisect_right(self.history", "bisect.bisect_left(self.history"),
        invariants=("watch-*", "endless-run", "liveness*"),
        easy=True,
    ),
    _config(
        "watch-skips-what-came-together",
        "Of revisions that come in one answer a watch gives the last one.",
        Edit(
            f"{_ROOM}configuration.py",
            "self._ready.extend(changes.revisions)",
            "self._ready.extend(changes.revisions[-1:])",
        ),
        invariants=("watch-*",),
        easy=True,
    ),
    _config(
        "expiry-not-told",
        "A key whose TTL is over goes away, and nobody who watches is told.",
        Edit(
            _STORE,
            "        self._keep(stamp, [Change(entry.key, ChangeKind.EXPIRED) for entry in over])\n",
            "",
        ),
        invariants=("watch-*",),
    ),
)
