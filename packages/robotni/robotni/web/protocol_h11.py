"""HTTP as h11 reads it: what a server without the extra `fast` speaks."""

from uvicorn.protocols.http.h11_impl import H11Protocol

from robotni.web.limits import MAX_AHEAD, NO_HTTP, Impatient


class Protocol(Impatient, H11Protocol):
    """Bounded by h11 itself: 64 KiB for a head, a chunk's line or the trailers."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.look()
        if not (self.is_at_rest or self.cycle.more_body):
            self._bound_what_is_ahead()

    def _bound_what_is_ahead(self) -> None:
        """Whoever reads a body lets more in behind it."""
        if len(self.conn.trailing_data[0]) > MAX_AHEAD:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        self.hang_up(*NO_HTTP)
