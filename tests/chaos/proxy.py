"""A way to a server that can stop answering: it goes on accepting, and says nothing more."""

import socket
import threading
from contextlib import suppress
from typing import Self


class Proxy:
    """Passes everything on to `port` of this machine, until it hangs."""

    def __init__(self, port: int) -> None:
        self._to, self._open = port, threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.held = 0
        self._sockets = {self._listener}

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for opened in list(self._sockets):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def hang(self) -> None:
        """Say nothing more to anyone; whoever is held stays held."""
        self._open.clear()

    def resume(self) -> None:
        """Serve those who come anew."""
        self._open.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:  # the server is down: refuse as it would
                client.close()
                continue
            self._sockets |= {client, server}
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    def _pass(self, a: socket.socket, b: socket.socket) -> None:
        with suppress(OSError):
            while said := a.recv(65536):
                if not self._open.is_set():
                    self.held += 1
                    return  # and neither side is told
                b.sendall(said)
            b.shutdown(socket.SHUT_WR)
            self._sockets -= {a}
            a.close()
