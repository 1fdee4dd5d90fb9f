# SPDX-License-Identifier: MIT
# sh kill.sh DELAY: kills a lava-wait that has run for so long (seconds), as nothing can prevent.

lava-wait "killed-$1" >/dev/null 2>&1 &
sleep "$1"
kill -9 $!
wait $! 2>/dev/null
echo "@@ killed after $1"
