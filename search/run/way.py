"""Where a search is to run, and whether it is watched there."""

from dataclasses import dataclass

from search.errors import InputError


@dataclass(frozen=True)
class Way:
    """An address, a tracking server, and how."""

    address: str | None = None  # of a cluster: http://HEAD:8265 takes a job; auto or host:port is driven from here
    tracking_uri: str | None = None
    follow: bool = False
    ship: bool = False
    inline: bool = False

    @property
    def is_job(self) -> bool:
        """Whether the search is submitted and goes on without this process."""
        return self.address is not None and "://" in self.address

    def require_possible(self) -> None:
        """Raise InputError where its parts contradict each other."""
        if self.inline and self.address not in (None, "local"):
            raise InputError("--inline: is in this process; leave --address out")
        if (self.follow or self.ship) and not self.is_job:
            raise InputError("--follow and --ship: are for a job, with --address http://HEAD:8265")
