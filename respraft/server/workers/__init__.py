"""Workers: processes that serve a node's clients, so that its event loop has nothing to do with sockets.

    clients ──TCP──> worker 0 ──┐ groups of commands, a message per pass of the loop
    clients ──TCP──> worker 1 ──┼──socket pair──> the node's process: batches, order, execution
    clients ──TCP──> worker 2 ──┘ <── reply bytes, a message per turn

A worker accepts, parses, keeps the order of a connection's commands, and writes sockets: it runs the same
`ClientConnection` as a node without workers does, with another owner (`front.py`). Instead of submitting a
group to the replica it puts it into a message. At the other end of the socket pair `remote.py` submits it,
with a `RemoteClient` that waits for the answer and sends it back as bytes. So a worker knows nothing of the
keyspace, of Raft or of a session: those are the node's, whose batches hold what all workers have brought.

* **Exactly once** needs nothing between the two. Each dies with what the other had of it: a worker takes its
  connections along, whose commands in flight run or do not, as ever when a connection breaks; and when the
  node's process ends, so do the socket pairs, and with them all workers. Nothing is ever sent twice.
* **Order.** A connection has one group in flight, as everywhere, and a socket pair keeps order.
* **Back-pressure.** A worker counts the request bytes that it has handed over and that are not answered. Past
  its share of `client.in_flight_bytes_max` it reads no sockets. Replies are bounded as in one process, by
  its share of `client.output_buffer_bytes_max`.
* **What needs the node** (INFO, RAFT.*, CONFIG GET, TIME, CLIENT LIST and KILL) is sent there and runs there.
  Before those that are about all connections, every worker tells of its own (`crew.py`).
* **Ports.** The node's process takes the port, once for each worker (SO_REUSEPORT), and hands the listening
  sockets on. So a port that is taken is found before anything begins, and what connects while a worker is
  being started again waits in its queue.
* **Ends.** Workers ignore SIGTERM and SIGINT, which a terminal or systemd sends to all processes alike. They
  end when they are told to over the socket pair, after their clients have got their answers, or with it.
"""
