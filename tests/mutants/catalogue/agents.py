"""Mistakes in what agents are promised: replies, sessions, reads."""

from tests.mutants.mutant import Edit, Mutant

_LEDGER = "meshnode/agents/ledger.py"
_SERVICE = "meshnode/agents/service.py"
_REQUEST = "meshnode/agents/request.py"


def _agents(name: str, wrong: str, *edits: Edit, worlds: tuple[str, ...] = (), easy: bool = False) -> Mutant:
    return Mutant(
        name=f"agents-{name}",
        wrong=wrong,
        edits=edits,
        worlds=worlds,
        invariants=("linearizability", "exactly-once-*", "requests-*", "partitions-*", "liveness*"),
        is_easy=easy,
    )


AGENTS = (
    _agents(
        "request-ids-only-in-memory",
        "Which requests have ended is known to the process that ran them alone.",
        Edit(
            _REQUEST,
            "return None if session is None or session.replies is None else session.replies.get(call.request)",
            "return None",
        ),
    ),
    _agents(
        "sessions-lost-in-snapshots",
        "A snapshot of a partition has no replies of its sessions.",
        Edit(
            _LEDGER,
            "_SessionSnapshot(number, session.lowest, tuple((session.replies or {}).items()))",
            "_SessionSnapshot(number, session.lowest, ())",
        ),
    ),
    _agents(
        "replies-forgotten-one-too-early",
        "The reply to the lowest request that its caller still waits for is forgotten.",
        Edit(
            _LEDGER,
            "for old in range(self.lowest, lowest) if is_step else [kept for kept in replies if kept < lowest]:",
            "for old in range(self.lowest, lowest + 1) if is_step else [kept for kept in replies if kept <= lowest]:",
        ),
    ),
    _agents(
        "reply-before-commit",
        "The answer to a call leaves when its turn has ended, before its record is committed.",
        Edit(
            _SERVICE,
            "        sequence = self._propose(serving, turn, committed)\n",
            "        committed(0)\n        sequence = self._propose(serving, turn, lambda _sequence: None)\n",
        ),
    ),
    _agents(
        "read-unconfirmed",
        "A read is answered when its turn has ended (rule 11).",
        Edit(
            _SERVICE,
            "        serving.reads[token] = functools.partial(self._finish, serving, request, recorded(0, reply))\n"
            "        self._primaries.read(serving.partition, token)\n",
            "        self._finish(serving, request, recorded(0, reply))\n",
        ),
    ),
    _agents(
        "running-request-runs-again",
        "A request that is asked again while it runs is run a second time.",
        Edit(
            _SERVICE, "        if running is not None:\n", "        if running is not None and not running.waiting:\n"
        ),
    ),
    _agents(
        "unknown-session-opened",
        "A request of a session that is not known is run all the same.",
        Edit(
            "meshnode/agents/serving.py",
            "        if session is None or call.session not in self.session_used_at_s:\n",
            "        if session is None:\n            return\n        if call.session not in self.session_used_at_s:\n",
        ),
    ),
    _agents(
        "deposed-says-no",
        "A primary that is deposed says of what is under way that it had no effect, though it may yet have one.",
        Edit(
            _SERVICE,
            "unknown = Answer(0, Status.UNKNOWN, ",
            "unknown = Answer(0, Status.TRY_AGAIN, ",
        ),
    ),
    _agents(
        "caller-changes-identity",
        "A caller that has no answer asks again under another number.",
        Edit(
            "meshnode/agents/caller.py",
            "                        session, request, lowest, request_id, chain,",
            "                        session, request if number % 2 else request + 1000, lowest, request_id, chain,",
        ),
    ),
)
