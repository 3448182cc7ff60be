"""`meshnode.Client` against real nodes, where that is more than what the commands use of it."""

import pytest
import trio

from meshnode import Address, Client, Unavailable, UnknownMethod
from tests.process.cluster import Cluster
from tests.process.ports import ReservedPort

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


async def test_all_who_want_one_node_at_once_share_one_connection(mesh: Cluster) -> None:
    node = mesh.nodes[0].address
    async with Client([node]) as client, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(lambda: client.view("status", at=node))
    assert client._links._dials == 1  # two links would cost a pause at the end, until the surplus one is closed


async def test_what_the_block_raises_comes_out_of_it_as_it_is(mesh: Cluster) -> None:
    with pytest.raises(UnknownMethod):
        async with Client([mesh.nodes[0].address]) as client:
            await client.ref("counter", "42").no_such_method()
    with pytest.raises(ZeroDivisionError):
        async with Client([mesh.nodes[0].address]):
            raise ZeroDivisionError


async def test_a_client_goes_on_with_another_node_when_the_first_cannot_be_reached(mesh: Cluster) -> None:
    port = ReservedPort()
    async with Client([Address("127.0.0.1", port.number), mesh.nodes[1].address]) as client:
        assert (await client.view("status"))["name"] == mesh.nodes[1].name
        with pytest.raises(Unavailable, match="can't be reached"):
            await client.view("status", at=Address("127.0.0.1", port.number))
    port.release()
