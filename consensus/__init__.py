"""Raft as a library: a core without I/O, a checksummed log on disk, and a driver for trio.

It imports nothing of meshnode. Terms and rules are those of the Raft paper (Ongaro and Ousterhout 2014), of Ongaro's
thesis, and, where these leave a choice, of etcd-io/raft.

`consensus.driver.RaftNode` keeps the duties below. Whoever drives `consensus.raft.Raft` alone has to:

1. Call `receive` for each message from a peer, `wake` at `next_deadline` or later, and `propose` for what shall be
   agreed.
2. Take `ready()`. None means that there is nothing to do until one of the calls above.
3. Send `messages` at any time from now on. None of them relies on anything that this batch has yet to write.
4. Store the snapshot, if there is one, then the hard state, then the entries, in that order and before anything of a
   later batch. If `must_sync`, or with a snapshot, make them durable before the next step.
5. Send `messages_after_sync`.
6. Load the snapshot, if there is one. Apply `committed_entries` in order. Hand the change in an entry of kind `CHANGE`
   or `CHANGE_SET` to `apply_change`.
7. Call `advance()`, and begin again at 2. Calls of 1 may come at any moment, also while the disk is at work.

A write that failed ends the node: neither `advance` nor any message may follow it.

A read that was asked for by `read` may be answered once the index of its `ReadState`, in `read_states`, is applied
(`consensus.reads`).

With `async_storage`, `ready` may be called again at once. Its `append` and `apply` are work for two threads, each in
its order, in place of the duties 4 to 7; `consensus.ready` says what the core is told when a piece of it is done.
"""
