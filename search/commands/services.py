"""`fgsearch services`: MLflow and its database, started, shown, ended, and who may enter."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from search.console import open_console
from search.errors import InputError
from search.record.home import Home

if TYPE_CHECKING:
    from cluster.mlflow_service import Services

app = typer.Typer(
    help="Run MLflow and its database as services, with passwords.",
    epilog="Example: fgsearch services up",
    no_args_is_help=True,
)
out = open_console(soft_wrap=True)

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder of the services.", show_default="./fgsearch-home")
]


@app.command(epilog="Example: fgsearch services up --port 5000 --database postgresql://me@db.example.org/mlflow")
def up(
    home: HomeOption = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port.", show_default="5000", min=1, max=65535)] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that answer.", show_default="2", min=1, max=64)
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            help="postgresql: one of our own; sqlite: a file in the home; or an address (password in PGPASSWORD).",
            show_default="postgresql where it is installed, else sqlite",
        ),
    ] = None,
    artifacts: Annotated[
        str | None, typer.Option("--artifacts", help="Where files of runs go.", show_default="into the home")
    ] = None,
    allowed_hosts: Annotated[
        list[str] | None,
        typer.Option("--allowed-hosts", help="A further name by which clients call the server; repeatable."),
    ] = None,
) -> None:
    """Start MLflow on its database, or what of it does not run; without options as it ran last."""
    if database is not None and database not in ("postgresql", "sqlite") and "://" not in database:
        raise InputError(f"--database {database}: postgresql, sqlite or an address, e.g. postgresql://me@host/mlflow")
    asked = {
        "host": host, "port": port, "workers": workers, "database": database, "artifacts": artifacts,
        "allowed_hosts": tuple(allowed_hosts) if allowed_hosts else None,
    }
    services = _services(home)
    with out.status("starting MLflow and its database …"):
        started = services.up({name: value for name, value in asked.items() if value is not None})
    settings = services.settings()
    out.print(f"MLflow on {services.url}, {'started' if started else 'up already'}; user admin, password in "
              f"{services.credentials}")
    if settings.host not in ("127.0.0.1", "localhost", "::1"):
        out.print(f"{settings.host} is no loopback: passwords travel in clear; put TLS before it, or come by ssh -L")
    for service in services.status():
        if service.name != "MLflow":
            out.print(f"{service.name} on {service.address}")
    out.print(f"  launch   fgsearch launch finches --tracking-uri {services.url}{_option(home)}")


@app.command(epilog="Example: fgsearch services status --json")
def status(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Show what runs and where; status 1 when something is down."""
    found = _services(home).status()
    if as_json:
        out.print_json(data=[asdict(service) for service in found])
    else:
        table = Table("service", "state", "address", "process", box=None, header_style="dim")
        for service in found:
            table.add_row(service.name, service.state, service.address, str(service.process or ""))
        out.print(table)
    if any(service.state == "down" for service in found):
        raise typer.Exit(1)


@app.command(epilog="Example: fgsearch services down")
def down(home: HomeOption = None) -> None:
    """End the services; what they hold stays."""
    with out.status("ending …"):
        ended = _services(home).down()
    out.print(f"{' and '.join(ended)} ended" if ended else "nothing ran")


@app.command(epilog="Example: fgsearch services user anna --read-only")
def user(
    name: Annotated[str, typer.Argument(help="The user's name.")],
    home: HomeOption = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="May look, not write.")] = False,
    new_password: Annotated[bool, typer.Option("--new-password", help="Give a user that exists a new one.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Let the user in no more.")] = False,
) -> None:
    """Let a user in, or change what one may; the password goes to a file that only you can read."""
    from cluster.private import secret, write_private
    from cluster.service_settings import login_lines
    from search.tracking.store import EXPERIMENT

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name == "admin":
        raise InputError(f"{name!r}: a user's name has letters, digits, '.', '_' and '-', 64 at most, and is not admin")
    services = _services(home)
    server, file = services.server(), services.folder / "users" / name
    there = server.has_user(name)
    if remove:
        if there:
            server.delete_user(name)
        file.unlink(missing_ok=True)
        out.print(f"{name}: removed" if there else f"{name}: is no user")
        return
    if not there or new_password:
        password = secret()
        (server.set_password if there else server.create_user)(name, password)
        write_private(file, login_lines(services.url, name, password))
    server.set_writer(name, server.ensure_experiment(EXPERIMENT), writes=not read_only)
    where = f"; login in {file}" if file.exists() else ""
    out.print(f"{name}: may {'read' if read_only else 'read and write'}{where}")


def _services(home: Path | None) -> "Services":
    from cluster.mlflow_service import Services
    from search.tracking.store import EXPERIMENT

    return Services(Home.find(home).path, EXPERIMENT)


def _option(home: Path | None) -> str:
    return "" if home is None else f" --home {home}"
