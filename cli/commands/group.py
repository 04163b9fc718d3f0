"""A group of commands of which `list` need not be named."""

from typing import Any

from typer.core import TyperGroup


class ListingGroup(TyperGroup):
    """Reads `lookalike GROUP` and `lookalike GROUP --json` as `lookalike GROUP list …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        names_none = not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)
        return super().parse_args(ctx, ["list", *args] if names_none else args)
