# SPDX-License-Identifier: MIT
# Says whether the console echoes.

. /test/library.sh
echo "@@ echo $(echo_flag)"
