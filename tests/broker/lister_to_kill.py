"""Builds the index of conversations, a few messages at a time, until it is killed."""

import asyncio
import os
import sys

from mq9 import Mq9Client
from mq9.listings import index, listings

index.AT_ONCE = 20
listings.MOST_S = 0  # one part for each request


async def main():
    async with Mq9Client(sys.argv[1]) as client:
        while True:
            page = await client.conversations()
            os.write(1, f"{page.building}\n".encode())


asyncio.run(main())
