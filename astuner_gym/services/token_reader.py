"""The service's side of a lease: which token counts now. Needs the standard library alone.

A service in a virtual environment without this package can load the file by its path.
"""

from __future__ import annotations

import hmac
import os
import signal
import sys
import threading
from typing import TextIO


class TokenReader:
    """Holds the token that counts, as the lines on standard input say."""

    def __init__(self) -> None:
        """Let no token count."""
        self._token = ""

    @classmethod
    def listening(cls, lines: TextIO = sys.stdin) -> TokenReader:
        """Return one that a thread keeps up to date, and that ends the process after the lines."""
        reader = cls()
        threading.Thread(target=reader._follow, args=[lines], daemon=True).start()
        return reader

    def change(self, token: str) -> None:
        """Let this token count, and none before it; an empty one lets nobody in."""
        self._token = token

    def accepts(self, authorization: str | None) -> bool:
        """Return whether an ``Authorization`` header brings the token that counts."""
        scheme, _, token = (authorization or "").partition(" ")
        matches = hmac.compare_digest(token.encode(), self._token.encode())
        return scheme == "Bearer" and token != "" and matches

    def _follow(self, lines: TextIO) -> None:
        for line in lines:
            self.change(line.rstrip("\n"))
        os.kill(os.getpid(), signal.SIGTERM)
