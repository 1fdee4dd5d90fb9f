import sys

import pexpect

board = pexpect.spawn("lavabox", ["hook", "--name", "board", "--", *sys.argv[1:]], timeout=60)
board.expect("ready")
board.sendline("lava-send address ip=10.0.0.1 && echo sent by $(lava-self)")
board.expect("sent by board")
print(board.after.decode())
board.close()
