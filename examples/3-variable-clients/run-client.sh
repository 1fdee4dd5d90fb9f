#!/bin/sh
# SPDX-License-Identifier: MIT
# One of any number of clients.

run_client() {
    echo "$(lava-self) talks to $1"
}

set -e
# By its name: that a network could find it by this name, too, the example takes for granted.
server=$(lava-group | grep 'server$' | cut -f 1)

lava-sync ready
run_client "$server"
lava-sync done
