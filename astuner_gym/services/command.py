"""How a service is started, and how it is asked whether it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from astuner_gym.errors import SettingError

PORT = "{port}"
"""Stands for the port in a service's arguments."""
FOLDER = "{folder}"
"""Stands, in a service's arguments, for a folder of its own, which ends with it."""


class Probe(Protocol):
    """Asks a service whether it would serve the holder of a token."""

    async def __call__(self, base_url: str, *, token: str) -> bool:
        """Return whether it is ready and takes the token; an ``OSError`` counts as False."""
        ...


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Ready when a GET, sent with the token as bearer, is answered with status 200."""

    path: str = "/"

    async def __call__(self, base_url: str, *, token: str) -> bool:
        """Return whether the service answers with 200."""
        # By hand, since an HTTP client that is made for one request takes longer than the request,
        # and one that is kept belongs to one event loop.
        where = urlsplit(base_url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            writer.write(
                f"GET {self.path} HTTP/1.1\r\nHost: {where.netloc}\r\n"
                f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode("ascii")
            )
            version, _, rest = (await reader.readline()).decode("latin-1").partition(" ")
            return version.startswith("HTTP/") and rest.startswith("200")
        except ValueError:  # a line without an end
            return False
        finally:
            writer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCommand:
    """Starts a service that listens on a port of 127.0.0.1 and reads tokens from standard input.

    Each line of its standard input is the token that counts from then on, and every request must
    bring it; the tokens before it are void. The end of its input means that it must end.
    :mod:`astuner_gym.services.token_reader` does this, in any Python. A service that reads no
    tokens can be leased as well, but then cannot tell a late request from one of the next episode.
    """

    argv: Sequence[str]
    """Program and arguments; ``{port}`` in an argument is replaced by the port to listen on,
    ``{folder}`` by an empty folder of the service's own, which is removed after it has ended. The
    port is held until then, so the program must bind it with ``SO_REUSEADDR``, as servers do."""
    cwd: Path | None = None
    """Where it runs; the caller's folder if None."""
    env: Mapping[str, str] = field(default_factory=dict)
    """All of its environment variables: it inherits none, so no key leaks into it."""
    ready: Probe = field(default_factory=HttpProbe)
    """Asks it whether it is ready for the holder of a token."""

    def __post_init__(self) -> None:
        if not self.argv:
            raise SettingError("argv of a ServiceCommand must name a program, got none")
