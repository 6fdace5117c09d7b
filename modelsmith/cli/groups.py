"""Groups of commands: those made of the operations table, and those whose module is imported when one is asked for."""

from __future__ import annotations

import importlib
from typing import Any

import click
from typing_extensions import override

from modelsmith.operations.table import OPERATIONS, Operation
from modelsmith.schema.importing import importing
from modelsmith.schema.system import known_failures

SERVE = "Serve agents and programs"
"""Heading of the commands that are no operation: they keep running, or hand out secrets."""
GROUP_HELP = {
    "pr": "Pull requests: every change of state is one, and people decide on them.",
    "upstream": "The toolkit's own repository: take its changes, give yours, and nothing private.",
    "runbook": "Operational playbooks of main: each step is a command, and a person is asked where one decides.",
    "jobs": "Long operations that an agent's tools started: see, follow and end them.",
    "schema": "JSON Schemas of the governed files.",
    "new": "Write a valid file. On a terminal it asks for what you leave out; it never writes over anything.",
}


class PlainCommand(click.Command):
    """A command that is no row of the table; its examples are imported when its help is asked for."""

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from modelsmith.cli.examples import epilog

        words: list[str] = []
        context = ctx
        while context.parent is not None:
            words.insert(0, str(context.info_name))
            context = context.parent
        self.epilog = epilog(" ".join(words))
        super().format_epilog(ctx, formatter)


class PlainGroup(click.Group):
    """A group of commands that are no rows of the table."""

    command_class = PlainCommand


class TableGroup(click.Group):
    """A group whose commands are rows of the operations table, loaded on first use."""

    command_class = PlainCommand

    def __init__(self, prefix: str = "", **attributes: Any) -> None:
        super().__init__(**attributes)
        self.prefix = prefix

    def _rows(self) -> dict[str, Operation | str]:
        """Next word after the prefix -> operation, or the summary of a sub-group."""
        rows: dict[str, Operation | str] = {}
        for operation in OPERATIONS:
            words = operation.name.split()
            if self.prefix and words[0] != self.prefix:
                continue
            rest = words[1:] if self.prefix else words
            rows[rest[0]] = operation if len(rest) == 1 else f"See `modelsmith {rest[0]} --help`."
        return rows

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._rows(), *super().list_commands(ctx)]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        row = self._rows().get(cmd_name)
        if isinstance(row, Operation):
            with importing():
                from modelsmith.cli.commands import command_for

                return command_for(row)
        if row is not None:
            return TableGroup(prefix=cmd_name, name=cmd_name, help=GROUP_HELP.get(cmd_name))
        return super().get_command(ctx, cmd_name)

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        commands = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in commands:
            from difflib import get_close_matches

            near = get_close_matches(args[0], commands, n=1)
            suggestion = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{args[0]}'.{suggestion}", ctx)
        return super().resolve_command(ctx, args)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        with known_failures():
            return super().invoke(ctx)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for operation in OPERATIONS:
            words = operation.name.split()
            if not self.prefix or words[0] == self.prefix:
                name = " ".join(words[1:] if self.prefix else words)
                sections.setdefault(operation.group, []).append((name, operation.summary))
        for name in super().list_commands(ctx):
            command = super().get_command(ctx, name)
            if command is not None and not command.hidden:
                sections.setdefault(SERVE, []).append((name, command.get_short_help_str(100)))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class LoadedGroup(click.Group):
    """A group whose commands stand in a module of their own, which is imported when one of them is asked for."""

    def __init__(self, name: str, module: str, help: str) -> None:
        super().__init__(name, help=help)
        self._module = module

    def _commands(self) -> click.Group:
        group: click.Group = getattr(importlib.import_module(self._module), str(self.name))
        return group

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._commands().list_commands(ctx)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._commands().get_command(ctx, cmd_name)
