"""The demo's client: images to agents, each call repeated under one id until it is acknowledged."""

import time

import trio

from meshnode.client import Client
from meshnode.demo.digits import DigitReader
from meshnode.demo.training import Digits
from meshnode.errors import OutcomeUnknown, Unavailable

AGENTS = 500

PACE_S = 0.25
"""Between two images of one agent: two thousand calls a second in all are more than the demo's two cores answer."""

CALL_TIMEOUT_S = 20.0

RETRY_S = 0.1
"""Between two attempts at a call: some errors come at once, and 500 agents that repeat theirs would do nothing else."""

LAST_WORDS_S = 0.5
"""An answer that a node sent before it was killed has arrived by then, and says nothing about who serves now."""


class Tallies:
    """What the client saw.

    Attributes:
        acknowledged: calls that were answered, by agent.
        answered_again: when each agent first answered after `watch`, in seconds of ``time.monotonic``.
        held_out, held_out_right: answers to images of the held-out fifth, and how many were right.
    """

    def __init__(self, digits: Digits) -> None:
        self.acknowledged = [0] * AGENTS
        self.answered_again: dict[int, float] = {}
        self.held_out = 0
        self.held_out_right = 0
        self._digits = digits
        self._answers = [0] * len(digits.images)
        self._watching_since_s = float("inf")

    @property
    def total(self) -> int:
        """All acknowledged calls."""
        return sum(self.acknowledged)

    @property
    def has_passed_once(self) -> bool:
        """Whether each image was answered at least once."""
        return min(self._answers) > 0

    def watch(self) -> None:
        """Note from now on when each agent answers again."""
        self.answered_again = {}
        self._watching_since_s = time.monotonic() + LAST_WORDS_S

    def note(self, number: int, image: int, digit: int) -> None:
        """Agent ``number`` acknowledged its call."""
        now = time.monotonic()
        self.acknowledged[number] += 1
        self._answers[image] += 1
        if now > self._watching_since_s:
            self.answered_again.setdefault(number, now)
        if self._digits.held_out[image]:
            self.held_out += 1
            self.held_out_right += digit == self._digits.labels[image]


class Stream:
    """Streams until `finish` is called; then each agent ends the call that it is in."""

    def __init__(self, client: Client, digits: Digits) -> None:
        self.tallies = Tallies(digits)
        self._client = client
        self._digits = digits
        self._finished = trio.Event()

    def finish(self) -> None:
        """Send no further images."""
        self._finished.set()

    async def run(self) -> None:
        """Return when every call is acknowledged."""
        async with trio.open_nursery() as nursery:
            for number in range(AGENTS):
                nursery.start_soon(self._feed, number)

    async def _feed(self, number: int) -> None:
        """Agent ``number`` reads every image whose index leaves that remainder, again and again."""
        total = len(self._digits.images)
        await trio.sleep(PACE_S * number / AGENTS)
        step = 0
        while not self._finished.is_set():
            due = time.monotonic() + PACE_S
            await self._read(number, (number + step * AGENTS) % total, f"image-{step}")
            step += 1
            await trio.sleep(max(0.0, due - time.monotonic()))

    async def _read(self, number: int, image: int, request_id: str) -> None:
        pixels = self._digits.images[image].tobytes()
        label = int(self._digits.labels[image])
        while True:
            agent = self._client.ref(DigitReader, str(number), timeout_s=CALL_TIMEOUT_S, request_id=request_id)
            try:
                reading = await agent.read(pixels, label)
            except (Unavailable, OutcomeUnknown):
                await trio.sleep(RETRY_S)  # then under the same request id: it takes effect once
            else:
                break
        self.tallies.note(number, image, reading.digit)
