"""The verb `port`: which ports of this host lead to a machine."""

from __future__ import annotations

import click

from converter.cli.drivers import Driver, driver_option
from converter.cli.output import Output
from converter.cli.reach import machine_argument
from converter.errors import NotFoundError
from converter.network.publish import parse_expose, port_order


@click.command("port")
@machine_argument
@click.argument("port", required=False, metavar="[PORT[/PROTOCOL]]")
@driver_option
@click.pass_obj
def command(output: Output, *, machine: str, port: str | None, driver: Driver) -> int:
    """Print the published ports of the running MACHINE, or where one of its ports is.

    \b
    Examples:
      saltflat port web
      saltflat port web 80
      saltflat port dns 53/udp
    """
    record = driver.open(output.monitor).find(machine)
    bindings = sorted(record.ports, key=lambda binding: (port_order(binding.name), binding.host))
    if port is None:
        lines = [f"{binding.name} -> {binding.host}" for binding in bindings]
    else:
        (name, *_) = parse_expose(port, option="")
        bindings = [binding for binding in bindings if binding.name == name]
        lines = [binding.host for binding in bindings]
        if not lines:
            raise NotFoundError(
                f"No port of this host leads to {name} of {record.name}.",
                hint=f"See all with: saltflat port {record.name}",
            )
    if lines or output.format == "json":
        output.result(
            "\n".join(lines),
            {"schema": 1, "ports": [binding.to_json() for binding in bindings]},
        )
    return 0
