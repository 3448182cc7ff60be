"""Agents that price listings, and say as which primary they do."""

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
        await shop.shop.show(self.key, price, token=self.node.fencing_token)
        self.state.value = price
