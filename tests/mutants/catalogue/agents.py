"""Mistakes in what agents are promised: replies, sessions, reads."""

from tests.mutants.mutant import Edit, Mutant

_LEDGER = "meshnode/agents/ledger.py"
_SERVICE = "meshnode/agents/service.py"
_REQUEST = "meshnode/agents/request.py"
_CONTEXT = "meshnode/agents/context.py"


def _agents(name: str, wrong: str, *edits: Edit, worlds: tuple[str, ...] = (), easy: bool = False) -> Mutant:
    return Mutant(
        name=f"agents-{name}",
        wrong=wrong,
        edits=edits,
        worlds=worlds,
        invariants=("linearizability", "exactly-once-*", "requests-*", "partitions-*", "app-*", "liveness*"),
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
            'unknown = Answer(0, Status.UNKNOWN, "not_primary", ',
            'unknown = Answer(0, Status.TRY_AGAIN, "not_primary", ',
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
    _agents(
        "session-expires-under-a-call",
        "A session in which nothing new was asked for expires while a call in it is under way.",
        Edit(_SERVICE, "            if identity[0] in used:\n", "            if identity[0] in used and not used:\n"),
    ),
    _agents(
        "nested-ids-of-the-epoch",
        "A turn that runs again on another primary makes its calls under other ids.",
        Edit(
            _CONTEXT,
            "turn = (call.agent_type, call.key, identity_of(call))",
            "turn = (call.agent_type, call.key, identity_of(call), self._turn.epoch)",
        ),
    ),
    _agents(
        "nested-calls-not-counted",
        "Two calls of one turn to the same agent have one id.",
        Edit(_CONTEXT, "        self._calls[agent_type, key] += 1\n", "        self._calls[agent_type, key] = 1\n"),
    ),
    _agents(
        "timeout-keeps-the-state",
        "A turn that is stopped at its deadline leaves in memory what it has changed.",
        Edit(
            "meshnode/agents/activation.py",
            "        if isinstance(ended, Postponed) or ended.reply.code:\n",
            '        if isinstance(ended, Postponed) or ended.reply.code not in ("", TurnTimeout.code):\n',
        ),
    ),
    _agents(
        "reads-beside-a-turn",
        "A read does not wait for the turn that is under way.",
        Edit(
            _SERVICE,
            "        if activation.turns is None:\n            activation.turns = trio.CancelScope()\n",
            "        if activation.turns is None or request.handler.is_read_only:\n"
            "            activation.turns = trio.CancelScope()\n",
        ),
    ),
    _agents(
        "errors-not-kept",
        "The reply to a request of a session is kept only if it is no error.",
        Edit(
            _LEDGER,
            "        if session is not None:\n            self.payload_bytes += session.note(",
            "        if session is not None and not turn.reply.code:\n            self.payload_bytes += session.note(",
        ),
    ),
)
