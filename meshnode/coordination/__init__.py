"""Locks with fencing tokens, elections and a small replicated configuration, on the mesh's one Raft group.

1. The replicated part is a state machine without I/O (`state`, with `sessions`, `queues` and `store`): every node
   applies the same commands, so each knows who holds what. Its bounds are in `bounds`, the same everywhere.
2. A request takes effect at most once, however often it is proposed (`sessions`).
3. Time is part of the log: the leader proposes what has passed (`ticking`). No two clocks are compared, and a change of
   leader, a lost tick or a pause of the leader can only make a TTL longer.
4. A claim is renewed by its process. One that can't renew it lets go of it before its TTL is over by its own clock; one
   that is stopped can't, so whatever a lock protects has to refuse tokens that are lower than one it has seen.
5. Reads are answered from a node's own copy, once that has all that was agreed on before the read (`replica`). Clients
   ask a node.
"""
