import asyncio
import sys

from dispatcher.library import Consoles


async def main(address: str) -> None:
    async with Consoles() as consoles:
        board = await consoles.open(address, "board")
        await board.until(b"ready")
        await board.type(b"lava-send address ip=10.0.0.1 && echo sent by $(lava-self)\n")
        print((await board.until(b"sent by board")).split(b"\n")[-1].decode())


asyncio.run(main(sys.argv[1]))
