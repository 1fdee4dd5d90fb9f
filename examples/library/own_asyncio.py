"""A console in your own asyncio program: its lava-* commands are answered, and its output is yours."""

import asyncio
import secrets
import sys

from dispatcher.consoles.opening import open_console
from dispatcher.host.attachment import Attachment
from dispatcher.host.groups import GroupLogs, Groups


class Output:
    """Gets what the device prints, without the protocol, and what there is to say about its console."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.rest = b""

    def output(self, data: bytes, now: float) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.lines.put_nowait(line)

    def notice(self, sentence: str) -> None:
        print(sentence, file=sys.stderr)


async def main(address: str) -> None:
    groups, output = Groups(GroupLogs(None), print), Output()
    group = (await groups.get("lab", None)).group
    console = open_console(address, 115200)
    board = Attachment("board", "client", console, group, [output], token=lambda: secrets.randbits(32))
    running = asyncio.create_task(board.run())
    while b"ready" not in await output.lines.get():
        pass
    board.type(b"lava-send address ip=10.0.0.1 && echo sent by $(lava-self)\n")
    while b"sent by board" not in (line := await output.lines.get()):
        pass
    print(line.decode())
    await board.close("is not needed any more")
    await running
    await groups.close()


asyncio.run(main(sys.argv[1]))
