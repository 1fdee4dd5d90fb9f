#!/bin/sh
# SPDX-License-Identifier: MIT
# Serves any number of clients: what they do between the two syncs, they do while the server is there.

start_server() {
    echo "server started for $(lava-group client | wc -l) clients"
}

set -e
start_server
lava-sync ready
lava-sync done
echo "all clients are done"
