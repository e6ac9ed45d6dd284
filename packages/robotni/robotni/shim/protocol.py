"""What goes over the socket between a worker and a shim."""

import array
import json
import os
import socket
import struct

HEADER = struct.Struct("!I")
# `loads`, less what it does for strangers' texts
parse = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
ENDED, NOT_BEGUN = b"!", b"?"
ANSWER = 4096  # bytes, at most


def answer(begun, word):
    """One of those two and, after the first, what `exit.json` says, unless that is too long."""
    if not begun:
        return NOT_BEGUN
    return ENDED + word if len(word) < ANSWER else ENDED


def receive(sock):
    """The next run as (dict, lock descriptor); None at EOF, also in the middle of a message."""
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    fds = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(HEADER.size, socket.CMSG_SPACE(fds.itemsize), flags)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    data += read_exactly(sock, HEADER.size - len(data)) if data else b""
    if len(data) < HEADER.size or not fds:
        return None
    if not flags:
        os.set_inheritable(fds[0], False)
    (size,) = HEADER.unpack(data)
    body = read_exactly(sock, size)
    return (parse(body.decode(), 0)[0], fds[0]) if len(body) == size else None


def read_exactly(sock, size):
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
