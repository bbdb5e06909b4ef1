"""What processes started in between print: kept from the terminal, and searched for a cause."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_KEPT = 1 << 20
_ERROR = re.compile(r"\b((?:\w+\.)*\w*(?:Error|Exception)): *(\S.*)$", re.MULTILINE)


class ChildOutput:
    """Takes over standard output and error while processes are started, which then keep it."""

    def __init__(self) -> None:
        # Without a name, so that it is gone with the last process that holds it open.
        self._file = tempfile.TemporaryFile("ab", buffering=0)  # noqa: SIM115 - see close

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Have whatever is printed go here, and for good what processes started now print."""
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
        try:
            for descriptor, _ in kept:
                os.dup2(self._file.fileno(), descriptor)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, own in kept:
                os.dup2(own, descriptor)
                os.close(own)

    def write(self, text: str) -> int:
        """Add to it, as a logging handler does."""
        return self._file.write(text.encode("utf-8", "backslashreplace"))

    def text(self) -> str:
        """Return the last of what was printed."""
        descriptor = self._file.fileno()
        size = os.fstat(descriptor).st_size
        start = max(0, size - _KEPT)
        return os.pread(descriptor, size - start, start).decode("utf-8", "replace")

    def first_error(self, *, ignore: Sequence[str] = ()) -> str:
        """Return the first exception that was printed, as ``Type: message``; empty if none was.

        Args:
            ignore: Names of types that tell nothing.
        """
        for found in _ERROR.finditer(self.text()):
            if found[1].rpartition(".")[2] not in ignore:
                return f"{found[1]}: {found[2]}"
        return ""

    def close(self) -> None:
        """Forget it."""
        self._file.close()
