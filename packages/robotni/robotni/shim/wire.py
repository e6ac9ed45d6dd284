"""What goes over the sockets from a worker to a shim, and from that to a fork that stands by."""

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
MOST_FDS = 3  # with one message


def answer(begun, word):
    """One of those two and, after the first, what `exit.json` says, unless that is too long."""
    if not begun:
        return NOT_BEGUN
    return ENDED + word if len(word) < ANSWER else ENDED


def send(sock: socket.socket, body: bytes, *fds: int) -> None:
    """A message and the descriptors that go with it."""
    message = HEADER.pack(len(body)) + body
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    sent = sock.sendmsg([message], [rights])
    if sent < len(message):  # once it has all, its death is no failure to tell it
        sock.sendall(message[sent:])


def receive(sock):
    """The next message as (dict, descriptors); None at EOF, also in the middle of one."""
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    fds = array.array("i")
    room = socket.CMSG_SPACE(MOST_FDS * fds.itemsize)
    data, ancillary, _, _ = sock.recvmsg(HEADER.size, room, flags)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    data += read_exactly(sock, HEADER.size - len(data)) if data else b""
    if len(data) < HEADER.size or not fds:
        return None
    if not flags:
        for fd in fds:
            os.set_inheritable(fd, False)
    (size,) = HEADER.unpack(data)
    body = read_exactly(sock, size)
    return (parse(body.decode(), 0)[0], list(fds)) if len(body) == size else None


def read_exactly(sock, size):
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
