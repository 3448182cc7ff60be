"""``meshnode run``: one node, until a signal or until it has left."""

import signal
import sys

import click
import trio
from click.core import ParameterSource

from meshnode.cli.outcome import reported
from meshnode.cli.secure import takes_tls
from meshnode.config import PORT_DEFAULT, NodeConfig
from meshnode.errors import OperatorError
from meshnode.identity import Address, parse_address
from meshnode.links import Tls
from meshnode.log import get_logger, write_logs_to
from meshnode.metadata.config import VOTERS_CHOICES, VOTERS_DEFAULT
from meshnode.node import Node
from meshnode.placement import PARTITIONS_DEFAULT, REPLICATION_DEFAULT
from meshnode.prediction import PredictionConfig


class AddressType(click.ParamType[Address]):
    """HOST:PORT, with a default port."""

    name = "host:port"

    def convert(self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Address):
            return value
        try:
            return parse_address(value, default_port=PORT_DEFAULT)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--name", required=True, help="For people; unique among the live nodes of the mesh.")
@click.option("--data", required=True, type=click.Path(file_okay=False), help="Data directory of this node alone.")
@click.option(
    "--bind", type=AddressType(), default=f"127.0.0.1:{PORT_DEFAULT}", show_default=True, help="Where to listen."
)
@click.option("--advertise", type=AddressType(), help="Where others reach this node, if not at --bind.")
@click.option("--found", is_flag=True, help="Found a new mesh; on exactly one node.")
@click.option("--join", type=AddressType(), multiple=True, help="A member that lets this node in; may be repeated.")
@click.option("--app", multiple=True, metavar="MODULE", help="Module whose agents this node offers; may be repeated.")
@click.option("--insecure", is_flag=True, help="Listen beyond loopback although datagrams are not sealed yet.")
@takes_tls
@click.option("--weight", type=int, default=1, show_default=True, help="Capacity relative to other nodes.")
@click.option("--zone", default="", help="What fails together with this node, such as a rack.")
@click.option("--partitions", type=int, default=PARTITIONS_DEFAULT, show_default=True, help="With --found.")
@click.option("--replication", type=int, default=REPLICATION_DEFAULT, show_default=True, help="With --found.")
@click.option(
    "--voters",
    type=click.Choice([str(choice) for choice in VOTERS_CHOICES]),
    default=str(VOTERS_DEFAULT),
    show_default=True,
    help="Of the Raft group, if there are as many nodes; with --found.",
)
@click.option("--device", default="", help="Part of an OpenCL device's name, a kind (gpu, cpu), or numpy.")
@click.option("--kernel-cache", default="", type=click.Path(file_okay=False), help="Where compiled kernels are kept.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-json/--log-text", default=None, help="Default: text in a terminal, JSON otherwise.")
def run(
    name: str,
    data: str,
    bind: Address,
    advertise: Address | None,
    found: bool,
    join: tuple[Address, ...],
    app: tuple[str, ...],
    insecure: bool,
    tls: Tls | None,
    weight: int,
    zone: str,
    partitions: int,
    replication: int,
    voters: str,
    device: str,
    kernel_cache: str,
    log_level: str,
    log_json: bool | None,
) -> None:
    """Run a node."""
    as_json = not sys.stderr.isatty() if log_json is None else log_json
    write_logs_to(sys.stderr, level=log_level, as_json=as_json)
    sys.path.insert(0, "")  # --app MODULE is looked for in the current folder too, as with python -m
    if found and join:
        raise click.UsageError(
            "--found and --join exclude each other: found on the first node of a new mesh, join on the others"
        )
    context = click.get_current_context()
    for option in ("partitions", "replication", "voters"):
        if join and context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} is for the node that founds the mesh: leave it out beside --join")
    try:
        config = NodeConfig(
            name=name,
            data=data,
            bind=bind,
            advertise=advertise,
            found=found,
            join=join,
            app=app,
            insecure=insecure,
            weight=weight,
            zone=zone,
            partitions=partitions,
            replication=replication,
            voters=int(voters),
            prediction=PredictionConfig(device=device, cache_dir=kernel_cache),
        )
        node = Node(config, tls=tls)
    except (ValueError, OperatorError) as error:
        raise click.UsageError(str(error)) from error
    if insecure:
        who_can = "links are not encrypted; whoever reaches the port controls the node"
        if tls is not None:
            who_can = "datagrams are not sealed; whoever reaches the port can mislead the node about who is alive"
        click.echo(f"meshnode: --insecure: {who_can}", err=True)
    with reported():
        trio.run(_serve, node)


async def _serve(node: Node) -> None:
    """Run the node until SIGINT, SIGTERM, or until it has left the mesh."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def stop_on_signal() -> None:
                async for number in signals:
                    get_logger().info("node stops", node=node.config.name, signal=signal.Signals(number).name)
                    nursery.cancel_scope.cancel()

            async with node:
                await node.left.wait()
                await trio.sleep(LEFT_LINGER_S)
            nursery.cancel_scope.cancel()


LEFT_LINGER_S = 0.5
"""Time for the answer to `meshnode leave`, and for the farewell datagrams, to get out."""
