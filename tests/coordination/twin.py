"""The rules of locks, sessions and keys once more, as plainly as can be: a brute-force twin of `Coordination`.

Nothing is shared with the code under test but the commands. A claim is held when no older one shares a name with it;
a request is remembered for ever, so that it is known whether it takes effect twice.
"""

from dataclasses import dataclass, field
from typing import Any

from meshnode.coordination.commands import (
    Acquire,
    BeginSession,
    Command,
    Release,
    Renew,
    Step,
    StepKind,
    Tick,
    Transact,
)

ALLOWANCE_MS = 2000
SESSION_MS = 60_000


@dataclass
class Twin:
    """All of the state, as plain data.

    Attributes:
        claims: in the order in which they were made: session, number, names, TTL, deadline, token.
        done: every request that was ever carried out or given up, by session and number.
    """

    now_ms: int = 0
    term: int = 0
    sessions: dict[int, dict[str, Any]] = field(default_factory=dict)
    claims: list[dict[str, Any]] = field(default_factory=list)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: set[tuple[int, int]] = field(default_factory=set)

    def apply(self, stamp: int, command: Command) -> None:
        """Carry out the command with that stamp."""
        match command:
            case BeginSession():
                self.sessions[stamp] = {"deadline": self.now_ms + SESSION_MS + ALLOWANCE_MS, "answered": 1}
            case Tick():
                self._tick(stamp, command)
            case Renew() if command.session in self.sessions:
                self.sessions[command.session]["deadline"] = self.now_ms + SESSION_MS + ALLOWANCE_MS
                for claim in self.claims:
                    if claim["session"] == command.session and claim["number"] in command.claims:
                        claim["deadline"] = self.now_ms + claim["ttl"] + ALLOWANCE_MS
            case Acquire() | Release() | Transact():
                self._request(stamp, command)
        self._grant(stamp)

    def _request(self, stamp: int, command: Acquire | Release | Transact) -> None:
        session = self.sessions.get(command.request.session)
        if session is None:
            return
        key = command.request.session, command.request.number
        session["deadline"] = self.now_ms + SESSION_MS + ALLOWANCE_MS
        session["answered"] = max(session["answered"], command.request.answered)
        if key in self.done or command.request.number < session["answered"]:
            return
        self.done.add(key)
        match command:
            case Acquire():
                deadline = self.now_ms + command.ttl_ms + ALLOWANCE_MS
                self.claims.append(
                    {
                        "session": key[0],
                        "number": key[1],
                        "names": command.names,
                        "ttl": command.ttl_ms,
                        "deadline": deadline,
                        "token": 0,
                    }
                )
            case Release():
                self.done.add((key[0], command.claim))
                self.claims = [
                    claim for claim in self.claims if (claim["session"], claim["number"]) != (key[0], command.claim)
                ]
            case Transact():
                succeeded = all(
                    (compare.key in self.keys) == (compare.relation.name == "GREATER") for compare in command.compares
                )
                for step in command.then if succeeded else command.otherwise:
                    self._step(stamp, step)

    def _step(self, stamp: int, step: Step) -> None:
        before = self.keys.get(step.key)
        if step.kind is StepKind.DELETE:
            self.keys.pop(step.key, None)
        elif step.kind is StepKind.PUT:
            self.keys[step.key] = {
                "value": step.value,
                "created": stamp if before is None else before["created"],
                "modified": stamp,
                "version": 1 if before is None else before["version"] + 1,
                "deadline": self.now_ms + step.ttl_ms + ALLOWANCE_MS if step.ttl_ms else 0,
            }

    def _tick(self, stamp: int, tick: Tick) -> None:
        if tick.term == self.term:
            self.now_ms += tick.elapsed_ms
        self.term = max(self.term, tick.term)
        now = self.now_ms
        self.claims = [claim for claim in self.claims if claim["deadline"] > now]
        self.keys = {name: key for name, key in self.keys.items() if not 0 < key["deadline"] <= now}
        claiming = {claim["session"] for claim in self.claims}
        self.sessions = {
            name: session for name, session in self.sessions.items() if session["deadline"] > now or name in claiming
        }

    def _grant(self, stamp: int) -> None:
        taken: set[str] = set()
        for claim in self.claims:
            if not claim["token"] and taken.isdisjoint(claim["names"]):
                claim["token"] = stamp
            taken.update(claim["names"])
