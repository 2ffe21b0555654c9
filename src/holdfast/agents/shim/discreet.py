"""A ledger that writes no secret down: what passes is redacted on its way into the journal, never on its way on."""

from __future__ import annotations

from .ledger import Ledger
from .redact import Redactor, Stream


class DiscreetLedger(Ledger):
    """Does what a `Ledger` does, without the secrets; what may be the beginning of one waits for what follows."""

    def __init__(self, path: str, limit: int, line_limit: int, redactor: Redactor) -> None:
        super().__init__(path, limit, line_limit)
        self._redactor = redactor
        self._open: dict[str, Stream] = {}

    def record(self, kind: str, **fields: object) -> None:
        texts = {name: self._redactor.text(value) for name, value in fields.items() if isinstance(value, str)}
        super().record(kind, **{**fields, **texts})

    def stdin(self, chunk: bytes, **fields: object) -> bool:
        return super().stdin(self._redactor.content(chunk), **fields)

    def stream(self, kind: str, chunk: bytes) -> None:
        if kind not in self._open:
            self._open[kind] = Stream(self._redactor)
        if chunk := self._open[kind].feed(chunk):
            super().stream(kind, chunk)

    def close_stream(self, kind: str) -> None:
        if kind in self._open and (rest := self._open.pop(kind).end()):
            super().stream(kind, rest)
        super().close_stream(kind)

    def seal(self, **fields: object) -> None:
        for kind in list(self._open):
            self.close_stream(kind)
        super().seal(**fields)
