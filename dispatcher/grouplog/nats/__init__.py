# SPDX-License-Identifier: MIT
"""A group log in NATS JetStream, which dispatchers on several hosts share.

    address    nats://HOST,HOST/LAB, and the credentials
    lab        a connection, and the stream of the lab
    outbox     what is to be appended: states, and no I/O
    follower   what comes back, in the order of the stream: states, and no I/O
    log        the group log itself

A lab has one stream, and a group one subject of it: `lab.LAB.GROUP`. A message holds events, one a
line, as a file of `--group-log` does.
"""
