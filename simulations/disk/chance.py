"""Draws that depend on what is drawn for, and not on what was drawn before."""

import random
import struct

import xxhash

_OCCASION = struct.Struct("<QQ")


class Chance:
    """Keyed randomness: a question, a subject (such as a file) and the number of the occasion give the answer.

    A generator that everything shares would give other answers to all later questions once one is left out.
    """

    def __init__(self, seed: int, name: str) -> None:
        self._seed = xxhash.xxh3_64_intdigest(name.encode(), seed % 2**64)
        # Bounded by the questions that the code asks, a dozen.
        self._questions: dict[str, int] = {}

    def subject(self, name: str, number: int) -> int:
        """A key for the ``number``-th thing of that name."""
        return xxhash.xxh3_64_intdigest(f"{name}\0{number}".encode(), self._seed)

    def draw(self, question: str, subject: int, occasion: int) -> float:
        """A number from 0 up to, not including, 1."""
        return (self._bits(question, subject, occasion) >> 11) * 2.0**-53

    def generator(self, question: str, subject: int, occasion: int) -> random.Random:
        """Where one answer takes many draws."""
        return random.Random(self._bits(question, subject, occasion))

    def _bits(self, question: str, subject: int, occasion: int) -> int:
        seed = self._questions.get(question)
        if seed is None:
            seed = self._questions[question] = xxhash.xxh3_64_intdigest(question.encode(), self._seed)
        return xxhash.xxh3_64_intdigest(_OCCASION.pack(subject, occasion), seed)
