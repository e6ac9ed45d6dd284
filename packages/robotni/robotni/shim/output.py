"""What is kept of a program's output: its beginning and its end, in at most `cap` bytes of disk.

The file `output` takes the first half of the cap. What comes after goes to segments of a quarter
each, `output.<start>`, of which the newest two are kept; `start` counts what the program wrote. So
the last quarter of the cap is always kept, and output up to the cap is kept as a whole.
"""

import os
import stat

from .evidence import close

FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
SEGMENTS = 2  # that are kept


class Output:
    """The output of one run, in its `folder`. OSError where the first file cannot be made."""

    def __init__(self, folder, cap):
        self.folder = folder
        self.segment_size = cap // 4
        self.written = self.kept = 0
        self.segments = []
        self.file = self.head = File(f"{folder}/output", cap - SEGMENTS * self.segment_size)

    def keep(self, data):
        """Counts `data`, and writes what the cap and the disk allow."""
        while data:
            size = self.write(data)
            self.written += size
            data = data[size:]

    def write(self, data):
        """Takes the first part of `data`; returns its size, kept or not."""
        if self.file is None or self.file.room == 0:
            self.file = self.next_segment()
        if self.file is None:
            return len(data)
        kept = self.file.write(data)
        self.kept += kept
        if kept == 0:  # no room on the disk: what comes later gets a segment with its own start
            self.end_file()
            return len(data)
        return kept

    def next_segment(self):
        """None where there can be none. The oldest goes first, so the cap holds at every moment."""
        if self.segment_size == 0:
            return None
        if len(self.segments) == SEGMENTS:
            self.kept -= self.segments.pop(0).remove()
        try:
            segment = File(f"{self.folder}/output.{self.written}", self.segment_size)
        except OSError:  # a full disk, or the script removed its folder
            return None
        self.segments.append(segment)
        return segment

    def end_file(self):
        """Nothing more is written to the present file; an empty segment is removed."""
        if self.file.size == 0 and self.file is not self.head:
            self.segments.pop().remove()
        self.file = None

    def sync(self):
        for file in (self.head, *self.segments):
            if file.size:
                os.fsync(file.fd)

    def close(self):
        for file in (self.head, *self.segments):
            close(file.fd)


class File:
    """One file of the output, with room for `room` more bytes."""

    def __init__(self, path, room):
        self.path = path
        self.room = room
        self.size = 0
        self.fd = os.open(path, FLAGS, 0o600)
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            os.close(self.fd)
            raise OSError(f"{path} is not a regular file")

    def write(self, data):
        """Writes the first bytes of `data`, as many as there is room for; returns how many."""
        try:
            size = os.write(self.fd, data[: self.room])
        except OSError:  # the disk is full or broken; the run goes on
            return 0
        self.size += size
        self.room -= size
        return size

    def remove(self):
        """Returns the bytes that were in it."""
        close(self.fd)
        try:
            os.unlink(self.path)
        except OSError:  # the script removed it, or its folder
            pass
        return self.size
