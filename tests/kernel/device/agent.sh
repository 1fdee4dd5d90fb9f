# SPDX-License-Identifier: MIT
# sh agent.sh ID: kills the agent while a command waits. Another one has to take its place.

. /test/library.sh
lava-wait "$1" &
until [ "$(echo_flag)" = off ]; do sleep 0.05; done
kill -9 "$(pidof lavabox-agent)"
wait $!
echo "@@ after the agent was killed: $?"
