#!/bin/sh
# SPDX-License-Identifier: MIT
# Serves one measurement: with iperf3, or with transfer.py where that is not installed.

# The address that others reach this device at; a machine without a network has itself.
address=$(ip route get 8.8.8.8 2>/dev/null | sed -n 's/.* src \([^ ]*\).*/\1/p')
address=${address:-127.0.0.1}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

if command -v iperf3 >/dev/null; then
    tool=iperf3
    # The usual port may be taken by another run on this machine.
    port=$((20000 + $$ % 10000))
    iperf3 --server --port "$port" --forceflush >"$log" 2>&1 &
else
    echo "iperf3 is not installed: measuring with transfer.py instead"
    tool=transfer.py
    python3 ./transfer.py serve >"$log" 2>&1 &
fi
server=$!

# A client that comes before the server listens is refused.
until grep -q 'listening' "$log"; do
    kill -0 "$server" 2>/dev/null || { cat "$log"; exit 1; }
    sleep 0.1
done
[ "$tool" = iperf3 ] || port=$(sed -n 's/listening on port //p' "$log")

lava-send server-ready server-ip="$address" port="$port" tool="$tool"
lava-wait client-done
status=$?
kill "$server"
exit "$status"
