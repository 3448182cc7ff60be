"""Mistakes in membership."""

from tests.mutants.mutant import Edit, Mutant


def _swim(name: str, wrong: str, *edits: Edit, easy: bool = False) -> Mutant:
    return Mutant(
        name=f"swim-{name}",
        wrong=wrong,
        edits=edits,
        worlds=("swim",),
        invariants=("swim-*", "liveness"),
        is_easy=easy,
    )


SWIM = (
    _swim(
        "ignores-incarnation",
        "Rumours override each other by their state alone.",
        Edit(
            "meshnode/membership/roster.py",
            "    if rumour.incarnation != held.incarnation:\n        return rumour.incarnation > held.incarnation\n",
            "",
        ),
        easy=True,
    ),
    _swim(
        "alive-beats-suspect",
        "A suspicion ends with any old word that the member was alive, of the same incarnation (SWIM 4.2).",
        Edit(
            "meshnode/membership/roster.py",
            "    if rumour.state != held.state:\n        return rumour.state > held.state\n",
            '    if (rumour.state.name, held.state.name) == ("ALIVE", "SUSPECT"):\n'
            "        return True\n"
            "    if rumour.state != held.state:\n"
            "        return rumour.state > held.state\n",
        ),
        easy=True,
    ),
    _swim(
        "suspicion-goes-on-after-refutation",
        "The timer of a suspicion is not stopped when the member refutes it.",
        Edit(
            "meshnode/membership/view.py",
            "suspicions.stop(member.node_id)\n",
            "suspicions.__len__()\n",
        ),
        Edit("meshnode/membership/view.py", "            assert held.state is State.SUSPECT, held\n", ""),
        easy=True,
    ),
    _swim(
        "suspicion-asserted-after-refutation",
        "The same, and the code that declares a death still asserts what it relies on.",
        Edit(
            "meshnode/membership/view.py",
            "suspicions.stop(member.node_id)\n",
            "suspicions.__len__()\n",
        ),
        easy=True,
    ),
    _swim(
        "restart-at-incarnation-0",
        "Each life of a node begins where the first one did.",
        Edit(
            "meshnode/membership/messages.py",
            "    return boot << BOOT_SHIFT\n",
            "    return 0 * boot\n",
        ),
        Edit(
            "meshnode/membership/messages.py",
            "if not self.boot << BOOT_SHIFT <= self.incarnation < INCARNATION_LIMIT:",
            "if not 0 <= self.incarnation < INCARNATION_LIMIT:",
        ),
        easy=True,
    ),
    _swim(
        "no-time-to-refute",
        "A suspect is declared dead at once.",
        Edit(
            "meshnode/membership/view.py",
            "suspicions.start(member.node_id, now + self.config.suspicion_s(self.roster.live))",
            "suspicions.start(member.node_id, now)",
        ),
        easy=True,
    ),
    _swim(
        "half-the-time-to-refute",
        "A suspect has half as long to refute as is set.",
        Edit(
            "meshnode/membership/view.py",
            "suspicions.start(member.node_id, now + self.config.suspicion_s(self.roster.live))",
            "suspicions.start(member.node_id, now + self.config.suspicion_s(self.roster.live) / 2)",
        ),
    ),
    _swim(
        "failed-probe-kills",
        "A probe that fails makes its target dead, not suspect.",
        Edit(
            "meshnode/membership/view.py",
            "self._adopt(in_state(held, SUSPECT), held, now, effects)",
            "self._adopt(in_state(held, DEAD), held, now, effects)",
        ),
        easy=True,
    ),
    _swim(
        "pause-not-noticed",
        "A node that was stopped holds the time that it was away against the others.",
        Edit("meshnode/membership/swim.py", "if late_s > self._config.probe_interval_s:", "if late_s > 1e9:"),
    ),
    _swim(
        "suspecting-raises-the-incarnation",
        "Who suspects a member raises the member's incarnation.",
        Edit(
            "meshnode/membership/view.py",
            "self._adopt(in_state(held, SUSPECT), held, now, effects)",
            "self._adopt(replace(held, state=State.SUSPECT, incarnation=incarnation + 1), held, now, effects)",
        ),
        easy=True,
    ),
    _swim(
        "never-refutes",
        "A node does not answer rumours about itself.",
        Edit(
            "meshnode/membership/view.py",
            "        if not supersedes(rumour, self.me):\n            return\n        if rumour.incarnation + 1",
            "        if rumour.state is not State.LEFT:\n            return\n        if rumour.incarnation + 1",
        ),
        easy=True,
    ),
    _swim(
        "the-dead-stay-dead",
        "No refutation brings back a member that was declared dead.",
        Edit(
            "meshnode/membership/view.py",
            "            if not supersedes(rumour, held):\n",
            "            if not supersedes(rumour, held) or (held.state is State.DEAD and rumour.boot == held.boot):\n",
        ),
        easy=True,
    ),
    _swim(
        "tombstones-forgotten",
        "The dead are forgotten at once, so that old gossip brings them back.",
        Edit(
            "meshnode/membership/roster.py",
            "self._expiries[member.node_id] = now + self._retention_s",
            "self._expiries[member.node_id] = now",
        ),
    ),
    _swim(
        "doubts-not-gossiped",
        "Who learns of a suspicion or a death does not pass it on.",
        Edit(
            "meshnode/membership/view.py",
            "        self.gossip.put(member, once=not spread)\n",
            "        if member.state is State.ALIVE:\n            self.gossip.put(member, once=not spread)\n",
        ),
    ),
    _swim(
        "no-help-from-others",
        "A probe that is not answered is not tried through others.",
        Edit(
            "meshnode/membership/detector.py",
            "for relay in self._view.sample(self._config.indirect_probes, besides=probe.target, alive=True):",
            "for relay in self._view.sample(0, besides=probe.target, alive=True):",
        ),
    ),
    _swim(
        "relays-keep-the-answer",
        "Who was asked to ping another does not pass the answer on.",
        Edit(
            "meshnode/membership/detector.py",
            "        if relay is None or relay.expires_at <= now:",
            "        if relay is None or relay.expires_at > now:",
        ),
    ),
    _swim(
        "never-knocks-at-the-lost",
        "Two halves of a mesh that hold each other dead never speak to each other again.",
        Edit("meshnode/membership/swim.py", "        if lost:\n", "        if lost and self._view.is_alone:\n"),
        Edit(
            "meshnode/membership/swim.py",
            "if self._seeds.addresses and self._rng.random() * self._view.roster.live < _SEED_KNOCKS:",
            "if self._seeds.addresses and self._view.is_alone:",
        ),
    ),
    _swim(
        "relay-vouches-unasked",
        "Who is asked to ping another says at once that it is alive.",
        Edit(
            "meshnode/membership/detector.py",
            "        if request.target == self._view.me.node_id:\n",
            "        if self._view.roster.get(request.target) is not None:\n",
        ),
        easy=True,
    ),
    _swim(
        "departure-claimed-for-others",
        "A member that did not refute in time is taken to have left.",
        Edit(
            "meshnode/membership/view.py",
            "self._adopt(in_state(held, DEAD), held, now, effects)",
            "self._adopt(in_state(held, State.LEFT), held, now, effects)",
        ),
        easy=True,
    ),
    _swim(
        "deaths-believed-unheard",
        "A death that others declared is believed at once, though its subject never had time to refute it here.",
        Edit(
            "meshnode/membership/view.py",
            "            if rumour.state is DEAD and held.is_live:\n                rumour = in_state(rumour, SUSPECT)\n",
            "",
        ),
    ),
    _swim(
        "refutes-suspicions-only",
        "A node that hears of its death does not object.",
        Edit(
            "meshnode/membership/view.py",
            "        if not supersedes(rumour, self.me):\n            return\n        if rumour.incarnation + 1",
            "        if rumour.state is State.DEAD or not supersedes(rumour, self.me):\n            return\n"
            "        if rumour.incarnation + 1",
        ),
    ),
    _swim(
        "probes-go-on-after-a-pause",
        "A node that was stopped gives its probes no more time.",
        Edit(
            "meshnode/membership/swim.py",
            "            self._detector.start_over(now, effects)\n",
            "            self._detector.period_ends_at = now + self._config.probe_interval_s\n",
        ),
    ),
    _swim(
        "relay-answers-with-its-own-number",
        "Who was asked to ping another passes the answer on under its own number.",
        Edit(
            "meshnode/membership/detector.py",
            "Send(relay.origin, Ack(relay.sequence, ack.source, self._view.piggyback()))",
            "Send(relay.origin, Ack(ack.sequence, ack.source, self._view.piggyback()))",
        ),
    ),
    _swim(
        "suspects-who-has-spoken",
        "A probe that fails counts against what its target has claimed meanwhile.",
        Edit(
            "meshnode/membership/view.py",
            "if held is not None and held.state is ALIVE and held.incarnation == incarnation:",
            "if held is not None and held.state is ALIVE:",
        ),
    ),
)
