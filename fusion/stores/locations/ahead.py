"""Reading remote files ahead of who reads them: pieces in flight, sized by the latency.

A file is fetched in pieces. While reading goes on from where it was, what lies ahead is asked for
before it is needed, twice as far each time, until as many bytes are under way as a fast connection
carries in one latency: then the wire is never idle. Beyond a file's end this goes on in the files
that are expected next, as many of them as have been read in a row. Who jumps about is given what
he asks for, and little else.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext

PIECE = 4 << 20  # bytes of a request
FASTEST = 1.25e9  # bytes a second of the fastest connection that is kept busy: 10 Gbit/s
MOST_AHEAD = 32 << 20  # bytes of one file
BUDGET = 512 << 20  # bytes of a process, where nobody says less
KEPT = 4  # pieces of a file that are kept though they were not read to their end
COMING = 16  # files that are read ahead before they are opened
NEEDED = 3  # pieces of a file that is read in order: its index, where reading is, and the next

Fetch = Callable[[str, int, int], "Future[memoryview]"]  # key, start, end


class Budget:
    """Bytes that a process holds or has under way."""

    def __init__(self) -> None:
        self._lock, self._held = threading.RLock(), 0  # again: a stream is collected inside
        self._shares: list[int] = []  # of what is read just now
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()

    @contextmanager
    def within(self, most: int) -> Iterator[None]:
        """Until it ends, so many bytes are read ahead, and those of others that do so meanwhile."""
        with self._lock:
            self._shares.append(most)
        try:
            yield
        finally:
            with self._lock:
                self._shares.remove(most)

    @property
    def most(self) -> int:
        """Bytes that may be read ahead now."""
        with self._lock:
            return min(BUDGET, sum(self._shares)) if self._shares else BUDGET

    def take(self, size: int, *, needed: bool) -> bool:
        """Whether there is room; what is needed is taken anyway."""
        with self._lock:
            if not needed and self._held + size > self.most:
                return False
            self._held += size
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self._held -= size

    def knows(self, stream: Stream) -> None:
        """Has an open file give up what it need not keep, where there is too little room."""
        with self._lock:
            self._streams.add(stream)

    def shed(self) -> None:
        """Drops what files keep though it was read, until there is room."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            if self._held <= self.most:
                return
            stream.shed()


HELD = Budget()


def within(most: int | None) -> AbstractContextManager[None]:
    """`Budget.within` of this process; None changes nothing."""
    return nullcontext() if most is None else HELD.within(most)


class Stream:
    """An open remote file; `Reading.open` makes it.

    Attributes:
        size: in bytes.
    """

    def __init__(self, reading: Reading, key: str, size: int, window: int) -> None:
        self.size = size
        self._reading, self._key, self._window = reading, key, window
        self._next = 0  # where reading goes on
        self._pieces: OrderedDict[int, Future[memoryview]] = OrderedDict()
        self._used: dict[int, int] = {}  # bytes read of each piece
        weakref.finalize(self, _drop, self._pieces, size).atexit = False
        HELD.knows(self)

    def read(self, offset: int, length: int) -> bytes:
        """A range of its bytes, shorter where the file ends before it; StoreError."""
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        at = range(offset // PIECE, -(-end // PIECE))
        with self._reading.lock:
            futures = [self._piece(n, needed=True) for n in at]
            self._look_ahead(offset, end, at[-1] + 1)
        HELD.shed()
        try:
            return b"".join(self._cut(offset, end, n, f) for n, f in zip(at, futures, strict=True))
        except BaseException:
            with self._reading.lock:
                for n in at:  # to be asked for again
                    self._forget(n)
            raise
        finally:
            with self._reading.lock:
                self._tidy()

    @property
    def idle(self) -> bool:
        """Whether nothing of it is held or under way."""
        return not self._pieces

    def start(self, most: int) -> int:
        """Asks for the file's beginning, and its end; the bytes that are under way by that."""
        last = (self.size - 1) // PIECE
        if self._piece(last, needed=False) is None:  # the index is read first
            return most
        return min(self.size, PIECE) + self._ask(range(last), most)

    def _cut(self, offset: int, end: int, n: int, piece: Future[memoryview] | None) -> memoryview:
        assert piece is not None
        first, last = max(offset - n * PIECE, 0), min(end - n * PIECE, PIECE)
        part = piece.result()[first:last]
        with self._reading.lock:
            self._used[n] = self._used.get(n, 0) + len(part)
        return part

    def _look_ahead(self, offset: int, end: int, after: int) -> None:
        most = self._reading.window()
        if end == self.size and self._next == 0 and offset > 0:  # the index: now comes the start
            after = 0
        elif self._next <= offset <= self._next + max(self._window, PIECE):
            self._next = end
            self._window = min(2 * self._window, most)
        else:
            self._next, self._window = end, min(PIECE, most)
            return
        left = self._window - self._ask(range(after, -(-self.size // PIECE)), self._window)
        if left > 0:
            self._reading.go_on(self._key, max(left, most - self._window))

    def _ask(self, at: range, most: int) -> int:
        """Asks for pieces as long as there is room; their bytes."""
        asked = 0
        for n in at:
            if asked >= most or self._piece(n, needed=False) is None:
                break
            asked += self._length(n)
        return asked

    def _length(self, n: int) -> int:
        return min(PIECE, self.size - n * PIECE)

    def _piece(self, n: int, *, needed: bool) -> Future[memoryview] | None:
        found = self._pieces.get(n)
        if found is None:
            if not HELD.take(self._length(n), needed=needed):
                return None
            start = n * PIECE
            found = self._reading.fetch(self._key, start, start + self._length(n))
            self._pieces[n] = found
        elif needed:
            self._pieces.move_to_end(n)
        return found

    def _tidy(self) -> None:
        """Drops what was read to its end, and all but a few of what was read in part."""
        part = [n for n in self._pieces if n in self._used]
        whole = [n for n in part if self._used[n] >= self._length(n)]
        for n in whole + [n for n in part if n not in whole][:-KEPT]:
            self._forget(n)

    def shed(self) -> None:
        """Drops pieces that are there and of which something was read: they can be had again."""
        lock = self._reading.lock
        if lock.acquire(blocking=False):  # else somebody reads it, and two would wait for another
            try:
                for n in [n for n in self._used if (piece := self._pieces.get(n)) and piece.done()]:
                    self._forget(n)
            finally:
                lock.release()

    def _forget(self, n: int) -> None:
        piece = self._pieces.pop(n, None)
        self._used.pop(n, None)
        if piece is not None:
            piece.cancel()
            HELD.give(self._length(n))


def _drop(pieces: dict[int, Future[memoryview]], size: int) -> None:
    for n, piece in pieces.items():
        piece.cancel()
        HELD.give(min(PIECE, size - n * PIECE))
    pieces.clear()


class Reading:
    """How the files of one store are read.

    Args:
        fetch: asks for a range of a file.
        latency: in seconds, as it is known now.

    Attributes:
        sizes: of files, as far as they are known.
        order: of files, as they will mostly be read.
        lock: over all of it; nobody waits for a server under it.
    """

    def __init__(self, fetch: Fetch, latency: Callable[[], float]) -> None:
        self.fetch, self._latency = fetch, latency
        self.sizes: dict[str, int] = {}
        self.lock = threading.RLock()
        self.order: list[str] = []
        self._at: dict[str, int] = {}
        self._runs: dict[int, int] = {}  # place of a file -> files opened in a row, up to it
        self._coming: OrderedDict[str, Stream] = OrderedDict()
        self._open: weakref.WeakValueDictionary[str, Stream] = weakref.WeakValueDictionary()

    def expects(self, keys: Sequence[str]) -> None:
        """The order in which files will mostly be read."""
        with self.lock:
            self.order, self._at = list(keys), {key: n for n, key in enumerate(keys)}

    def needed(self, keys: Sequence[str]) -> int:
        """Bytes that reading such files one after the other holds, though nothing is read ahead."""
        return min(
            NEEDED * PIECE, max((self.sizes.get(k, NEEDED * PIECE) for k in keys), default=0)
        )

    def window(self) -> int:
        """Bytes that should be under way."""
        return int(min(max(self._latency() * FASTEST, PIECE), MOST_AHEAD))

    def open(self, key: str) -> Stream:
        """A file, whose size is known."""
        with self.lock:
            at, coming = self._at.get(key, -1), self._coming.pop(key, None)
            run = self._runs.get(at - 1, 0) + 1
            self._runs[at] = run
            if coming is None:
                # after others in a row, it will be read through
                window = PIECE if run == 1 else self.window()
                coming = Stream(self, key, self.sizes[key], window)
            self._open[key] = coming
            return coming

    def go_on(self, key: str, most: int) -> None:
        """Asks for the beginnings of the files that follow one."""
        for following in self._following(key):
            if most <= 0:
                return
            stream = self._open.get(following)
            if stream is not None and not stream.idle:  # another thread reads it
                continue
            if stream is None and following not in self._coming:
                self._coming[following] = Stream(
                    self, following, self.sizes[following], self.window()
                )
            most -= (stream or self._coming[following]).start(most)
        while len(self._coming) > COMING:
            self._coming.popitem(last=False)

    def _following(self, key: str) -> Iterator[str]:
        at = self._at.get(key, -1)
        run = self._runs.get(at, 0)
        if at >= 0:
            for following in self.order[at + 1 : at + min(run, COMING)]:
                if following not in self.sizes:
                    return
                yield following
