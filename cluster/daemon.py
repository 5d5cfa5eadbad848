"""A server that outlives the command that starts it, found again by a mark in its environment.

A process id can be another process's by the time it is used, and a server killed with -9 leaves its workers holding the
port. The mark finds all of them, whoever is left.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "FGSEARCH_SERVICE"
SECONDS_TO_END = 10.0


@dataclass(frozen=True)
class Daemon:
    """The server of a folder; its output goes to `log`."""

    folder: Path
    log: Path

    def start(self, command: list[str], environment: Mapping[str, str]) -> None:
        """Start it in a session of its own: closing the terminal does not end it; no code of this folder is run."""
        marked = {**os.environ, **environment, MARK: str(self.folder), "PYTHONSAFEPATH": "1"}
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        os.posix_spawn(command[0], command, marked, setsid=True, file_actions=files)

    def leader(self) -> psutil.Process | None:
        """Return the process that was started, if it still runs; without it the others only linger."""
        return next((process for process in self.processes() if os.getsid(process.pid) == process.pid), None)

    def processes(self) -> list[psutil.Process]:
        """Return all that is left of it."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):  # another user's, or gone meanwhile
                if process.environ().get(MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def stop(self) -> bool:
        """End all of it, by force what does not end by itself; returns whether anything ran."""
        ran = alive = self.processes()
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(alive, SECONDS_TO_END)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, SECONDS_TO_END)
        return bool(ran)

    def last_words(self) -> str:
        """Return the last line it logged."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else "it gave no reason"
