"""Waits on the network: until every HOST:PORT takes connections, all at once, up to a deadline.

Without arguments it opens two ports of its own, one of them late, and waits for these.
"""

import argparse
import asyncio
import sys
import time


def address(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


async def until_open(host, port):
    """Seconds until something listened there."""
    start = time.monotonic()
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return time.monotonic() - start


async def wait(host, port, deadline):
    """Whether the port opened within `deadline` seconds."""
    try:
        seconds = await asyncio.wait_for(until_open(host, port), deadline)
    except asyncio.TimeoutError:
        print(f"{host} port {port} is closed after {deadline:g} s")
        return False
    print(f"{host} port {port} is open after {seconds:.1f} s")
    return True


async def listen(delay):
    """A server on a free port that takes connections after `delay` seconds."""
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, start_serving=False
    )
    opening = asyncio.ensure_future(asyncio.sleep(delay))
    opening.add_done_callback(lambda _: asyncio.ensure_future(server.start_serving()))
    return server


async def main():
    parser = argparse.ArgumentParser(description="wait for open ports")
    parser.add_argument("addresses", nargs="*", type=address, metavar="HOST:PORT")
    parser.add_argument("--deadline", type=float, default=10, metavar="SECONDS")
    options = parser.parse_args()

    own = [] if options.addresses else [await listen(0), await listen(1)]
    addresses = options.addresses or [server.sockets[0].getsockname() for server in own]
    opened = await asyncio.gather(*(wait(*each, options.deadline) for each in addresses))
    for server in own:
        server.close()
    return 0 if all(opened) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
