"""The rules of the metadata once more, as plainly as they can be said: a brute-force twin of `Metadata`.

The whole state is one dict of plain data, copied for each command. Nothing is shared with the code under test but the
commands themselves.
"""

import copy
from typing import Any

from meshnode.metadata.commands import ChangeRows, Command, Forget, Found, Leaving, Register, RowChange, Step
from meshnode.metadata.rows import Phase

State = dict[str, Any]

EMPTY: State = {"founding": None, "nodes": {}, "rows": {}}


def after(state: State, command: Command) -> tuple[State, str]:
    """The next state and the outcome."""
    new = copy.deepcopy(state)
    return new, _carry_out(new, command)


def _carry_out(state: State, command: Command) -> str:
    nodes, rows = state["nodes"], state["rows"]
    if isinstance(command, Found):
        if state["founding"] is not None:
            return "stale"
        if command.partitions not in [2**power for power in range(15)] or command.replication <= 0:
            return "invalid"
        state["founding"] = (command.mesh_id, command.partitions, command.replication)
        return "done"
    if isinstance(command, Register):
        if command.node_id not in range(1, 2**63) or command.boot <= 0 or command.weight <= 0:
            return "invalid"
        if command.node_id in nodes and nodes[command.node_id]["boot"] >= command.boot:
            return "stale"
        nodes[command.node_id] = {
            "boot": command.boot,
            "who": (command.name, command.address, command.weight, command.zone),
            "leaving": False,
        }
        return "done"
    if isinstance(command, Leaving):
        if command.node_id not in nodes:
            return "stale"
        if not [other for other in nodes if other != command.node_id and not nodes[other]["leaving"]]:
            return "invalid"
        nodes[command.node_id]["leaving"] = True
        return "done"
    if isinstance(command, Forget):
        if command.node_id not in nodes:
            return "stale"
        for row in rows.values():
            if command.node_id in row["replicas"] + row["base"]:
                return "invalid"
        del nodes[command.node_id]
        return "done"
    assert isinstance(command, ChangeRows)
    outcomes = [_change(state, change) for change in command.changes]
    return "done" if not outcomes or "done" in outcomes else outcomes[0]


def _change(state: State, change: RowChange) -> str:
    nodes, rows = state["nodes"], state["rows"]
    if state["founding"] is None or change.partition not in range(state["founding"][1]):
        return "invalid"
    row = rows.get(change.partition, {"epoch": 0, "phase": "active", "base": (), "absent": True})
    if (row["epoch"], row["phase"]) != (change.epoch, "active" if change.phase is Phase.ACTIVE else "sealing"):
        return "stale"
    if change.step is Step.ACTIVATE:
        if row["phase"] == "active":
            return "invalid"
        rows[change.partition] = {**row, "phase": "active", "base": row["replicas"]}
        return "done"
    if change.primary not in change.replicas or len(change.replicas) != len(set(change.replicas)):
        return "invalid"
    if not set(change.replicas) <= set(nodes):
        return "invalid"
    if nodes[change.primary]["boot"] != change.boot:
        return "stale"
    rows[change.partition] = {
        "epoch": row["epoch"] + 1,
        "primary": (change.primary, change.boot),
        "replicas": change.replicas,
        "phase": "sealing",
        "base": row["base"],
        "reason": change.reason,
    }
    return "done"
