#!/bin/sh
# SPDX-License-Identifier: MIT
# One of any number of peers, each of which asks all the others.

cache=${LAVA_MULTI_NODE_CACHE:-/tmp/lava_multi_node_cache.txt}

self=$(lava-self)

initialize_data() {
    data="data of $self"
}

push_data() {
    lava-send data value="$data"
}

query_data() {
    # A value may hold '=' and blanks, a name of a device can't.
    sed -n "s/^$1:value=//p" "$cache"
}

set -e
initialize_data
lava-sync running

push_data
lava-wait-all data
for peer in $(lava-group | cut -f 1); do
    if [ "$peer" != "$self" ]; then
        echo "$self asks $peer: $(query_data "$peer")"
    fi
done
