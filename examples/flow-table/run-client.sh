#!/bin/sh
# SPDX-License-Identifier: MIT
# The second column of the flow table: works as soon as all servers are ready.

client_tasks() {
    echo "using $(lava-group server | paste -s -d ' ' -)"
    sleep 0.3
}

set -e
lava-sync start
lava-wait-all ready server
client_tasks
lava-sync fin
