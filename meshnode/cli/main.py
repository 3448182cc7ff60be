"""The command's root."""

from importlib.metadata import entry_points, version

import click

from meshnode.cli import ask, coordination
from meshnode.cli.demo import demo
from meshnode.cli.raft import doctor, raft
from meshnode.cli.run import run

COMMANDS_GROUP = "meshnode.commands"
"""Entry points of this group add commands, so that rooms outside this package can offer theirs."""


class Root(click.Group):
    """Looks for further commands among the installed entry points, and imports only the one that is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *(point.name for point in entry_points(group=COMMANDS_GROUP))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            return command
        for point in entry_points(group=COMMANDS_GROUP, name=cmd_name):
            loaded = point.load()
            assert isinstance(loaded, click.Command)
            return loaded
        return None


@click.group(cls=Root)
@click.version_option(version("meshnode"), prog_name="meshnode")
def main() -> None:
    """An embedded peer-to-peer mesh for Python."""


for command in (
    *(run, demo, ask.members, raft, doctor, ask.agents, ask.call, ask.devices, ask.leave, ask.status),
    *(coordination.locks, coordination.config),
):
    main.add_command(command)
