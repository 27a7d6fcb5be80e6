"""Mockpost on a free port of 127.0.0.1, which is the first line printed. Started by tests/system/oracles.rs in a folder of its own.
Ends when its standard input does, so that it never outlives a test."""

import os
import socket
import sys
import threading

import uvicorn
from mockpost import main


async def nothing():
    """In place of the mail and file servers, which want fixed ports and which nobody calls here."""


def end_with_input():
    sys.stdin.buffer.read()
    os._exit(0)


main.start_smtp = main.start_ftp = main.start_sftp = nothing
threading.Thread(target=end_with_input, daemon=True).start()
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(main.app, log_level="warning")).run(sockets=[listener])
