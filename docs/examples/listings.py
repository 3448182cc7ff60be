"""Agents that price listings. One line of them is a mistake."""

from dataclasses import dataclass

import shop
import trio

from meshnode import Agent, agent, handler

DRAWING_S = 1.0
"""How long the picture takes that shows the price."""


@dataclass
class Price:
    value: int = 0


@agent("listing", state=Price)
class Listing(Agent[Price]):
    @handler
    async def set_price(self, price: int) -> None:
        await trio.sleep(DRAWING_S)
        await shop.shop.show(self.key, price)
        self.state.value = price
