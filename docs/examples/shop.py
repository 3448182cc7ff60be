"""A web shop that shows prices, as agents reach it; and a workload that says what is to hold of it."""

from collections import Counter
from typing import Any

import trio

from simulations.mesh import SimClient, World

shop: Any = None
"""What agents talk to: in production a client of the shop's, in the simulator what the workload puts here."""


class StaleToken(Exception):
    """Who asks was the primary of its agent once, and is not any more."""


class Shop:
    """The outside world. It knows no agents: it shows what it is told, unless a newer primary has told it otherwise."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.prices: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()

    def show(self, listing: str, price: int, token: int = 0) -> None:
        if token < self.tokens[listing]:
            raise StaleToken(f"{listing} was priced under token {self.tokens[listing]}; this is {token}")
        self.tokens[listing] = token
        before, self.prices[listing] = self.prices[listing], price
        self.world.check(price >= before, "price-went-back", f"key {listing!r} shows {price} after {before}")


LISTINGS = 5
"""Of each client."""


async def workload(world: World) -> None:
    """Each client raises the prices of listings of its own, step by step, and waits for the answers each time."""
    global shop
    outside = Shop(world)
    shop = world.outside(outside)
    agreed: Counter[str] = Counter()

    async def reprice(client: SimClient, listing: str) -> None:
        price = agreed[listing] + 1  # the same one again, when the last step ended in an error
        await client.ref("listing", listing, timeout_s=250.0).set_price(price)
        agreed[listing] = price

    async def step(client: SimClient) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(LISTINGS):
                nursery.start_soon(reprice, client, f"listing-{client.number}-{number}")

    await world.under_faults(step)
    for listing, price in agreed.items():
        shown = outside.prices[listing]
        world.check(shown >= price, "price-lost", f"key {listing!r} shows {shown}, but {price} was acknowledged")
