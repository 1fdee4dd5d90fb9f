#!/bin/sh
# SPDX-License-Identifier: MIT
# Tells the group how much space the server has.

set -e
# -P: one line a file system, however long its name.
lava-send server-ready free-space="$(df -Ph / | awk 'NR == 2 { print $4 }')"
