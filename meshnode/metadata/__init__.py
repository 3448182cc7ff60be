"""What the whole mesh agrees on through Raft: nodes and their boots, and a row for each partition.

1. Every node applies the same commands in the same order to its own `Metadata`; it is read locally and may be a moment
   old. Only a committed change counts.
2. A command carries what it compares with, so it may be proposed again, or by two nodes at once, without harm.
3. `plan` is the leader's duty: a pure function from metadata and membership to the commands that are due. So is
   `voters.next_step`, for the configuration of the Raft group.
4. The Raft group has few members. Every other node follows one of them, or another node that does (`following`,
   `feeding`, driven by `relay`), and has the leader propose for it. What comes either way passes through one `History`,
   which hands each command to the metadata once, in order.
"""
