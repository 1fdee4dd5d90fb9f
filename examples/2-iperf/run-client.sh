#!/bin/sh
# SPDX-License-Identifier: MIT
# Measures how fast data comes from, or goes to, the server.

cache=${LAVA_MULTI_NODE_CACHE:-/tmp/lava_multi_node_cache.txt}

value() {
    sed -n "s/^$1=//p" "$cache"
}

lava-wait server-ready || exit
# To be read before another wait writes the file anew.
address=$(value server-ip) port=$(value port) tool=$(value tool)

case $tool in
iperf3)
    if command -v iperf3 >/dev/null; then
        iperf3 --client "$address" --port "$port" --time 1
    else
        echo "the server measures with iperf3, which is not installed here"
        false
    fi
    ;;
*)
    python3 ./transfer.py fetch "$address" "$port"
    ;;
esac
status=$?

# Also after a failure: the server waits for it.
lava-send client-done
exit "$status"
