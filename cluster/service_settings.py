"""How the services of a home are to run, and a login to them as a file."""

import socket

from fgmodel.frozen import Frozen

LOOPBACK = "127.0.0.1"
EVERY = ("0.0.0.0", "::")  # noqa: S104 compared with, not bound to


class Settings(Frozen):
    """What the services are to be; kept between starts."""

    host: str = LOOPBACK
    port: int = 5000
    workers: int = 2
    database: str = "postgresql"           # ours; "sqlite": a file in the home; else an address
    artifacts: str | None = None           # where files of runs go, if not into the home
    allowed_hosts: tuple[str, ...] = ()    # further names by which clients may call it

    def names(self) -> list[str]:
        """Return the names by which clients may call the server."""
        here = [socket.gethostname(), socket.getfqdn()] if self.host in EVERY else [self.host]
        return list(dict.fromkeys([LOOPBACK, "localhost", *here, *self.allowed_hosts]))

    @property
    def url(self) -> str:
        """Return the server's address, as it is called from this machine."""
        host = LOOPBACK if self.host in (*EVERY, "localhost") else self.host
        return f"http://{host}:{self.port}"


def login_lines(url: str, user: str, password: str) -> str:
    """Return a login as a file that a shell can read, too."""
    lines = {"URI": url, "USERNAME": user, "PASSWORD": password}
    return "".join(f"MLFLOW_TRACKING_{key}={word}\n" for key, word in lines.items())
