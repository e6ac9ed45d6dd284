"""The output of a run as it can be read: its beginning, its end, and what is left out between.

Offsets count what the program wrote. The shim keeps the beginning in the file `output` and the end
in `output.<start>`, and deletes older segments while the run goes on; files that are open here stay
readable. A script may put anything in their place: no link is followed, and few names are read.
"""

import os
import re
from itertools import islice
from typing import BinaryIO, Iterator, List, NamedTuple, Optional, Union

from robotni.jobs.output import left_out
from robotni.system import files

CHUNK = 1 << 16  # bytes
MAX_NAMES = 1000  # names of the folder that are read; a script may make a million
TRIES = 10  # while segments are deleted faster than they are opened
_SEGMENT = re.compile(r"output\.(\d{1,18})\Z", re.ASCII)


class Piece(NamedTuple):
    """One file, with the bytes from `start` to `end` of what the program wrote."""

    start: int
    end: int
    file: BinaryIO


class Stretch(NamedTuple):
    """A part of the output in which nothing is left out."""

    start: int
    end: int


Part = Union[bytes, Stretch]


class Output:
    """What is kept at this moment of the output in `folder`; of None, nothing. Its files are open
    until `close`, or until all of `chunks` has been read."""

    def __init__(self, folder: Optional[str]) -> None:
        self._pieces = [] if folder is None else _pieces(folder)
        self.stretches: List[Stretch] = []
        for piece in self._pieces:
            follows = bool(self.stretches) and self.stretches[-1].end == piece.start
            start = self.stretches.pop().start if follows else piece.start
            self.stretches.append(Stretch(start, piece.end))
        self.size = self.stretches[-1].end if self.stretches else 0  # with what is left out

    def stretch_from(self, start: int) -> Stretch:
        """From the first byte at `start` or after it that is kept, to the next that is not. Empty,
        at the end, where there is none."""
        for stretch in self.stretches:
            if start < stretch.end:
                return Stretch(max(start, stretch.start), stretch.end)
        return Stretch(self.size, self.size)

    def last(self, size: int) -> Stretch:
        """The last `size` bytes, or as many of them as follow each other."""
        start = self.stretches[-1].start if self.stretches else 0
        return Stretch(max(start, self.size - size), self.size)

    def whole(self, written: int = 0) -> List[Part]:
        """All that is kept, with a line in the place of each part that is not. `written`: the bytes
        that the program wrote, where that is known."""
        parts: List[Part] = []
        end = 0
        for stretch in self.stretches:
            if stretch.start > end:
                parts.append(left_out(stretch.start - end))
            parts.append(stretch)
            end = stretch.end
        if written > end:
            parts.append(left_out(written - end))
        return parts

    def chunks(self, *parts: Part) -> Iterator[bytes]:
        """The bytes of `parts`, a little at a time."""
        with self:
            for part in parts:
                if isinstance(part, bytes):
                    yield part
                else:
                    yield from self._read(part)

    def _read(self, stretch: Stretch) -> Iterator[bytes]:
        for first, last, file in self._pieces:
            start, end = max(first, stretch.start), min(last, stretch.end)
            file.seek(max(0, start - first))
            while start < end:
                data = file.read(min(CHUNK, end - start))
                if not data:  # the script has cut the file
                    return
                start += len(data)
                yield data

    def close(self) -> None:
        for piece in self._pieces:
            piece.file.close()

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def size_of(parts: List[Part]) -> int:
    return sum(len(p) if isinstance(p, bytes) else p.end - p.start for p in parts)


def _pieces(folder: str) -> List[Piece]:
    """The files of the output that are not empty, opened, in the order of their bytes."""
    for attempt in range(TRIES):
        starts = _segments(folder)
        found = [_open(folder, start) for start in (0, *starts)]
        if None not in found[1:] or attempt == TRIES - 1:
            break
        for piece in found:  # a segment was deleted since it was listed: newer ones are there
            if piece is not None:
                piece.file.close()
    return _in_order([piece for piece in found if piece is not None])


def _in_order(found: List[Piece]) -> List[Piece]:
    """Without what is empty, and without what a script has put in the place of other bytes."""
    pieces: List[Piece] = []
    for piece in found:
        end = pieces[-1].end if pieces else 0
        if piece.start >= end and piece.start < piece.end:
            pieces.append(piece)
        else:
            piece.file.close()
    return pieces


def _segments(folder: str) -> List[int]:
    """Where the segments start. They are listed before any file is opened: the files before a
    segment that is listed do not grow any more."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, MAX_NAMES)]
    except OSError as error:
        if error.errno in files.NOT_THERE:  # removed, or closed, by the script
            return []
        raise
    return sorted(int(match[1]) for match in map(_SEGMENT.match, names) if match)[-4:]


def _open(folder: str, start: int) -> Optional[Piece]:
    name = f"output.{start}" if start else "output"
    opened = files.try_open(f"{folder}/{name}", os.O_NOFOLLOW)
    if opened is None:
        return None
    return Piece(start, start + opened[1], os.fdopen(opened[0], "rb"))
