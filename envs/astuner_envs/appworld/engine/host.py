"""Opens the port of an executor and becomes it, confined: the one thing that happens outside.

    host.py PORT FOLDER DATA -- <launcher of the sandbox …> -- <python> executor.py

A confined program can make no socket, so it is given one that listens already. FOLDER is the one
folder that it may write; it is empty and gets a link to DATA.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path


def main() -> None:
    """Listen, and become the executor."""
    port, folder, data = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    launcher = sys.argv[5:]
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(64)
    (folder / "data").symlink_to(data)
    fd = listener.fileno()
    os.set_inheritable(fd, True)
    split = launcher.index("--") if "--" in launcher else 0
    options = [f"--fd={fd}", f"--write={folder}"] if split else []
    argv = [*launcher[:split], *options, *launcher[split:], str(fd), str(folder)]
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
