"""Agents that price listings. One line of them is a mistake."""

from dataclasses import dataclass

import shop

from meshnode import Agent, agent, handler


@dataclass
class Price:
    value: int = 0


@agent("listing", state=Price)
class Listing(Agent[Price]):
    @handler
    async def set_price(self, price: int) -> None:
        await shop.shop.show(self.key, price)
        self.state.value = price
