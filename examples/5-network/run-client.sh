#!/bin/sh
# SPDX-License-Identifier: MIT
# Looks up the address of the device called database, and talks to it.

set -e
ip link set eth0 up
# Here could be a check of one's own that this worked.
lava-network broadcast eth0
# Whatever else there is to do meanwhile; then wait for the servers.
lava-network collect eth0 server
address=$(lava-network query database ipv4)
echo "database has $address"
lava-wait listening
python3 ./greet.py ask "$address"
