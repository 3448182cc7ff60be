"""The demo's agents: each reads handwritten digits and keeps a tally of them."""

from dataclasses import dataclass

import numpy as np

from meshnode.agents.definition import Agent, agent, handler

MODEL = "digits"
PIXELS = 64
PIXEL_MAX = 16.0
"""The data set's pixels are counts from 0 to 16."""


@dataclass
class Tally:
    """What one agent keeps."""

    read: int = 0
    correct: int = 0


@dataclass(frozen=True)
class Reading:
    """The answer to one image."""

    digit: int
    read: int


@agent("digit-reader", state=Tally)
class DigitReader(Agent[Tally]):
    """Reads images one at a time."""

    @handler
    async def read(self, pixels: bytes, label: int) -> Reading:
        """Predict the digit of an image of 8×8 pixels, and count it."""
        if len(pixels) != PIXELS:
            raise ValueError(f"an image has {PIXELS} pixels, not {len(pixels)}")
        row = np.frombuffer(pixels, dtype=np.uint8).astype(np.float32) / np.float32(PIXEL_MAX)
        probabilities = await self.node.predict(MODEL, row)
        digit = int(probabilities.argmax())
        self.state.read += 1
        self.state.correct += digit == label
        return Reading(digit, self.state.read)

    @handler(read_only=True)
    async def tally(self) -> Tally:
        """What has been counted so far."""
        return self.state
