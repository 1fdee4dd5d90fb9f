#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints what the server has sent.

cache=${LAVA_MULTI_NODE_CACHE:-/tmp/lava_multi_node_cache.txt}
set -e
lava-wait server-ready
# A name with a dash is no name of a shell variable.
free_space=$(grep '^free-space=' "$cache" | cut -d = -f 2)
echo "The free disk space on server is $free_space"
