"""Real drivers on real sockets of this machine. They wait for events; `fail_after` only guards against hanging."""

import dataclasses
from collections.abc import Callable

import pytest
import trio

from meshnode import wire
from meshnode.errors import AddressInUse
from meshnode.host import Datagrams, RealHost
from meshnode.identity import Address, Boot, MeshId, NodeId
from meshnode.membership.config import SwimConfig
from meshnode.membership.datagram import pack_datagram, unpack_datagram
from meshnode.membership.effects import SeedsSilent
from meshnode.membership.messages import (
    BUCKETS,
    DIGEST_BYTES,
    Ack,
    Member,
    Message,
    Ping,
    PingRequest,
    State,
    SyncPage,
    SyncRequest,
    first_incarnation,
)
from meshnode.membership.seeds import SEEDS_MAX
from meshnode.membership.udp import NOBODY, Membership

GUARD_S = 30.0
MESH = MeshId(b"0123456789abcdef")
QUICK = SwimConfig(
    probe_interval_s=0.1,
    probe_timeout_s=0.04,
    gossip_interval_s=0.02,
    sync_interval_s=0.5,
    rejoin_interval_s=0.3,
)
STILL = SwimConfig(  # does nothing by itself within the time of a test
    probe_interval_s=60.0,
    probe_timeout_s=0.05,
    gossip_interval_s=60.0,
    sync_interval_s=3600.0,
    rejoin_interval_s=3600.0,
)
LOOPBACK = Address("127.0.0.1", 0)


async def free_address(host: RealHost) -> Address:
    async with host.datagrams(LOOPBACK) as endpoint:
        return endpoint.address


def self_member(number: int, address: Address) -> Member:
    return Member(NodeId(number), f"n{number}", address, Boot(1), first_incarnation(Boot(1)))


async def membership(
    host: RealHost, number: int, seeds: tuple[Address, ...] = (), *, config: SwimConfig = QUICK
) -> Membership:
    address = await free_address(host)
    return Membership(host, config, self_member(number, address), mesh_id=MESH, bind=address, seeds=seeds)


async def mesh_of(host: RealHost, count: int, nursery: trio.Nursery) -> list[Membership]:
    """Drivers that know each other, each on a loop of its own."""
    drivers: list[Membership] = []
    for number in range(1, count + 1):
        seeds = (address_of(drivers[0]),) if drivers else ()
        drivers.append(await membership(host, number, seeds))
        await nursery.start(host.own_loop, drivers[-1].run)
    for driver in drivers:
        await until(driver, lambda it: alive(it) == set(range(1, count + 1)))
    return drivers


def address_of(driver: Membership) -> Address:
    return driver._bind


def alive(driver: Membership) -> set[int]:
    return {member.node_id for member in driver.members.values() if member.state is State.ALIVE}


async def until(driver: Membership, condition: Callable[[Membership], bool]) -> None:
    """Take the driver's events until the condition holds."""
    while not condition(driver):
        for node_id, event in (await driver.events.receive()).items():
            assert node_id == (NOBODY if isinstance(event, SeedsSilent) else event.member.node_id)


async def hear(endpoint: Datagrams, kind: type[Message]) -> Message:
    """The next message of the kind that reaches the endpoint."""
    while True:
        data, _ = await endpoint.receive()
        message = unpack_datagram(MESH, data)
        if isinstance(message, kind):
            return message


async def introduce(number: int, endpoint: Datagrams, driver: Membership) -> None:
    """Make the driver know a member that is nothing but this endpoint."""
    request = SyncRequest(1, self_member(number, endpoint.address), bytes(BUCKETS * DIGEST_BYTES))
    await endpoint.send(pack_datagram(MESH, request), address_of(driver))
    await hear(endpoint, SyncPage)


async def test_three_nodes_find_each_other() -> None:
    host = RealHost()
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            drivers = await mesh_of(host, 3, nursery)
            for driver in drivers:
                assert {member.name for member in driver.members.values()} == {"n1", "n2", "n3"}
                counted = driver.datagram_counters
                assert counted.malformed == counted.unknown_kind == counted.other_mesh == counted.oversize == 0
                assert counted.received_bytes >= counted.received * 16
                assert counted.sent_bytes >= counted.sent * 16
                assert driver.events.dropped == 0
            nursery.cancel_scope.cancel()


async def test_a_driver_that_is_stopped_is_dead_to_the_others() -> None:
    host = RealHost()
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            others = await mesh_of(host, 2, nursery)
            third = await membership(host, 3, (address_of(others[0]),))
            async with trio.open_nursery() as doomed:
                await doomed.start(host.own_loop, third.run)
                for driver in others:
                    await until(driver, lambda it: alive(it) == {1, 2, 3})
                doomed.cancel_scope.cancel()
            for driver in others:
                await until(driver, lambda it: it.members[NodeId(3)].state is State.DEAD)
                assert driver.counters.deaths >= 1
            nursery.cancel_scope.cancel()


async def test_a_driver_that_leaves_returns_and_is_departed_to_the_others() -> None:
    host = RealHost()
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            first, second = await mesh_of(host, 2, nursery)
            third = await membership(host, 3, (address_of(first),))
            async with trio.open_nursery() as leaving:
                await leaving.start(host.own_loop, third.run)
                await until(second, lambda it: 3 in alive(it))
                third.leave()
            for driver in (first, second):
                await until(driver, lambda it: it.members[NodeId(3)].state is State.LEFT)
            nursery.cancel_scope.cancel()


async def test_garbage_is_counted_by_cause_and_reaches_nobody() -> None:
    host = RealHost()
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery, host.datagrams(LOOPBACK) as endpoint:
            driver = await membership(host, 1, config=STILL)
            await nursery.start(host.own_loop, driver.run)
            good = pack_datagram(MESH, Ping(7, NodeId(1), NodeId(2)))
            for garbage in (
                b"",
                b"x",
                MESH,
                MESH + b"\xff" * 100,
                good[:-1],
                MESH + wire.dumps([wire.VERSION + 1, 0x10, {}]),
                MESH + wire.dumps([wire.VERSION, 0x1F, {}]),
                bytes(16) + good[16:],
                good + bytes(STILL.datagram_bytes_max),
            ):
                await endpoint.send(garbage, address_of(driver))
            await endpoint.send(good, address_of(driver))
            answer = await hear(endpoint, Ack)
            assert isinstance(answer, Ack)
            assert (answer.sequence, answer.source) == (7, 1)
            counted = driver.datagram_counters
            assert (counted.malformed, counted.unknown_kind, counted.other_mesh, counted.oversize) == (6, 1, 1, 1)
            assert counted.received == 10
            assert driver.members.keys() == {1}
            nursery.cancel_scope.cancel()


async def test_a_probe_on_demand_is_sent_at_once_and_goes_on_when_it_is_due() -> None:
    host = RealHost()
    with trio.fail_after(GUARD_S):
        async with (
            trio.open_nursery() as nursery,
            host.datagrams(LOOPBACK) as doubted,
            host.datagrams(LOOPBACK) as relay,
        ):
            driver = await membership(host, 1, config=STILL)
            await nursery.start(host.own_loop, driver.run)
            await introduce(2, doubted, driver)
            await introduce(3, relay, driver)
            driver.probe_now(NodeId(2))
            ping = await hear(doubted, Ping)
            assert isinstance(ping, Ping)
            assert (ping.target, ping.source) == (2, 1)
            request = await hear(relay, PingRequest)
            assert isinstance(request, PingRequest)
            assert request.target == 2
            assert request.updates[0].address == doubted.address
            nursery.cancel_scope.cancel()


async def test_silent_seeds_are_an_event_and_new_seeds_can_be_named_later() -> None:
    host = RealHost()
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            lonely = await membership(host, 1, (await free_address(host),))
            await nursery.start(host.own_loop, lonely.run)
            events = await lonely.events.receive()
            assert isinstance(events[NOBODY], SeedsSilent)
            other = await membership(host, 2)
            await nursery.start(host.own_loop, other.run)
            lonely.join([address_of(other)])
            for driver in (lonely, other):
                await until(driver, lambda it: alive(it) == {1, 2})
            nursery.cancel_scope.cancel()


async def test_a_snapshot_does_not_change_and_the_next_one_replaces_it() -> None:
    host = RealHost()
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery, host.datagrams(LOOPBACK) as endpoint:
            driver = await membership(host, 1, config=STILL)
            await nursery.start(host.own_loop, driver.run)
            before = driver.members
            await introduce(2, endpoint, driver)
            await until(driver, lambda it: NodeId(2) in it.members)
            assert before.keys() == {1}
            with pytest.raises(TypeError):
                driver.members[NodeId(9)] = before[NodeId(1)]  # type: ignore[index]
            nursery.cancel_scope.cancel()


async def test_an_address_that_is_taken_is_the_operators_to_free() -> None:
    host = RealHost()
    with trio.fail_after(GUARD_S):
        async with host.datagrams(LOOPBACK) as endpoint:
            driver = Membership(host, QUICK, self_member(1, endpoint.address), mesh_id=MESH, bind=endpoint.address)
            with pytest.raises(AddressInUse, match="in use"):
                await driver.run(lambda: None)


async def test_what_can_not_work_is_refused_where_it_is_said() -> None:
    host = RealHost()
    me = self_member(1, Address("127.0.0.1", 7946))
    with pytest.raises(ValueError, match="mesh id 6162 has 2 bytes"):
        Membership(host, QUICK, me, mesh_id=MeshId(b"ab"), bind=me.address)
    with pytest.raises(ValueError, match="resolve the name"):
        Membership(host, QUICK, me, mesh_id=MESH, bind=me.address, seeds=[Address("seed.example", 7946)])
    driver = Membership(host, QUICK, me, mesh_id=MESH, bind=me.address)
    with pytest.raises(ValueError, match="65 seeds"):
        driver.join([me.address] * (SEEDS_MAX + 1))
    with pytest.raises(ValueError, match="node id 0"):
        driver.probe_now(NodeId(0))
    assert driver.counters == dataclasses.replace(driver.counters)
    assert driver.datagram_counters.received == 0
