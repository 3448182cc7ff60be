"""Published models are durable agents."""

import pytest

from meshnode.agents.definition import definition_of
from meshnode.errors import InvalidArgument
from meshnode.prediction.shelf import ModelShelf, PublishedModel
from tests.prediction.networks import network


def shelf() -> ModelShelf:
    made = ModelShelf()
    made.key = "digits"
    made.state = PublishedModel()
    return made


async def test_versions_count_what_was_published_and_the_same_again_changes_nothing() -> None:
    agent = shelf()
    first, second = network(1).to_bytes(), network(2).to_bytes()
    assert await agent.publish(first) == 1
    assert await agent.publish(first) == 1
    assert await agent.publish(second) == 2
    assert await agent.publish(first) == 3


async def test_the_latest_version_is_told_unless_it_is_known() -> None:
    agent = shelf()
    assert await agent.latest(0) is None
    await agent.publish(network(1).to_bytes())
    assert await agent.latest(0) == PublishedModel(1, network(1).to_bytes())
    assert await agent.latest(1) is None
    assert definition_of(ModelShelf).handlers["latest"].is_read_only


async def test_bytes_that_are_no_model_are_not_published() -> None:
    agent = shelf()
    with pytest.raises(InvalidArgument, match="model 'digits': a model starts with"):
        await agent.publish(b"no model at all")
    assert agent.state == PublishedModel()
