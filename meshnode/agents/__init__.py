"""Durable agents: objects with a state, one turn at a time, called from anywhere in the mesh.

1. Declare an agent type with `definition.agent`, its handlers with `definition.handler`. States, arguments and results
   are checked against their types; what can't be read back is refused when it is made.
2. At the primary, `service.Agents` is the tenant of the partitions. A turn ends in one record with its reply, an error
   included. Nothing is told to anybody before the record is committed; an agent's next turn may start before that.
3. `caller.Caller` asks again under the same identity until it has an answer. Once a record may be queued, the only
   failure that it tells is OutcomeUnknown.
4. Calls inside a turn go through its `context.TurnContext`: a turn that runs again does not call twice. A read-only
   turn, which may run again without a trace, calls read-only handlers alone.
5. What a handler raises ends its call and nothing else. A class of error that promises that nothing was changed is told
   only where the turn changed nothing elsewhere (`footprint.Footprint`).
6. `ledger.Ledger` is the replicated state of one partition, decided by its records alone, and so is the time by which
   it forgets.
"""
