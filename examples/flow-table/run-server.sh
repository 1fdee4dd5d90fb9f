#!/bin/sh
# SPDX-License-Identifier: MIT
# The first column of the flow table.

server_start() {
    echo "starting the service"
    sleep 0.3
}

set -e
lava-sync start
server_start
lava-send ready
lava-sync fin
