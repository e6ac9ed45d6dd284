"""What goes over the socket between a worker and a shim: a length, then JSON."""

import array
import json
import os
import socket
import struct

HEADER = struct.Struct("!I")
ENDED, NOT_STARTED = b"!", b"?"
STAYS, LEAVES = b"+", b"-"
MAX_ANSWER = 4096  # bytes


def answer(has_started, leaves, exit_json):
    """ENDED or NOT_STARTED; LEAVES where the shim ends now and takes no other run; then what
    `exit.json` says, unless that is too long."""
    head = (ENDED if has_started else NOT_STARTED) + (LEAVES if leaves else STAYS)
    return head + exit_json if len(head + exit_json) <= MAX_ANSWER else head


def receive(sock):
    """The next message and the descriptor that came with it: (dict, int or None). (None, None) at
    end of file, also in the middle of a message."""
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    fds = array.array("i")
    try:
        data, ancillary, _, _ = sock.recvmsg(HEADER.size, socket.CMSG_SPACE(fds.itemsize), flags)
    except ConnectionResetError:  # the worker is gone, and did not read the last answer
        return None, None
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    data += read_exactly(sock, HEADER.size - len(data)) if data else b""
    if len(data) < HEADER.size:
        return None, None
    if fds and not flags:
        os.set_inheritable(fds[0], False)
    (size,) = HEADER.unpack(data)
    body = read_exactly(sock, size)
    if len(body) < size:
        return None, None
    return json.loads(body), fds[0] if fds else None


def read_exactly(sock, size):
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
