"""Replicated writes and linearizable reads: this project's Raft beside etcd and PySyncObj.

    python -m benchmarks.consensus [--peers etcd,pysyncobj] [--rounds N] [--quick] [--json FILE]

Each system runs as three processes on this machine, which talk over loopback, each with its data in a directory of its
own on a real disk. A fourth process is the client: it keeps so many requests outstanding, pipelined on a few
connections to the leader, and sends the next one as soon as one is answered. It speaks our protocol and etcd's (gRPC
over HTTP/2, in the plainest form that is allowed) with the same loop, so that it costs about the same for both; what it
costs is a metric of its own. PySyncObj has no protocol for clients: its load is made in the leader's process, by
callbacks, which spares it the fourth process.

Ours and etcd are measured over TLS 1.3, too, between peers and to the client, each side with a certificate of a CA that
is made for the turn. Ours settles on AES-256-GCM and etcd on AES-128-GCM, each as it comes. etcd 3.4 serves gRPC in
another way then, by the HTTP server of Go's library (etcd's issue 15402), so its rows show more than the price of TLS.

In each round the systems take turns. A turn starts three fresh processes with empty directories, and ends them.

- `writes_per_s`, `write_p50_ms`, `write_p99_ms`: values of 256 bytes, 10,000 keys in turn. An answer means that the
  write is on the disks of a quorum, and applied.
- `reads_per_s`, `read_p50_ms`, `read_p99_ms`: linearizable, of keys written before.
- `write_cpu_us`, `read_cpu_us`: what the three nodes take of the CPU for one of them, user and system time. It says
  more than the rest where the machine is busy with other work.
- `write_client_cpu_percent`, `read_client_cpu_percent`: of one core, in the client.
- `rss_mb`: the leader, after all of that.
- `catch_up_entries_per_s`: a follower that was down while so many entries were written; from the start of its process
  until it has applied the last, by a snapshot and the entries behind it where the leader has let go of the others.
"""
