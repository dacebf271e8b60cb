"""How a knowledge base is opened and written, whole or not at all, and how it holds a value.

Write-ahead log with `synchronous=FULL`: what was committed survives a killed process and a power
cut.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from iirl_engine.errors import KnowledgeError
from iirl_engine.knowledge.schema import TABLES, VERSION
from iirl_engine.layout import KNOWLEDGE

Array = NDArray[np.float64]
R = TypeVar("R")


class Database:
    """One run's knowledge base.

    Parameters
    ----------
    folder
        The run directory.
    create
        Make the file when there is none.

    Raises
    ------
    KnowledgeError
        When the file is missing, busy, damaged or written by another schema version.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        self.path = folder / KNOWLEDGE
        if not create and not self.path.is_file():
            raise KnowledgeError(
                "this directory holds no run",
                where=self.path,
                next_step="name a directory that iirl run made",
            )
        with self._errors():
            self._db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
            self._db.execute("PRAGMA synchronous = FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            empty = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if empty and create:
                self._db.execute("PRAGMA journal_mode = WAL")
                with self._transaction():
                    for statement in TABLES.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise KnowledgeError(
                    "the knowledge base has another schema version",
                    where=self.path,
                    got=version,
                    known=[VERSION],
                    next_step="use the engine version that wrote it",
                )
            self._db.execute("SELECT count(*) FROM round").fetchone()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _keep(self, table: str, number: int, records: Sequence[Any]) -> None:
        """Keep the records of a round in the table whose columns are their fields."""
        for place, record in enumerate(records):
            values = [
                json.dumps(value) if isinstance(value, tuple) else storable(value)
                for value in attrs.astuple(record)
            ]
            marks = ", ".join("?" * len(values))
            self._db.execute(
                f"INSERT INTO {table} VALUES (?, ?, {marks})", (number, place, *values)
            )

    def _kept(self, table: str, cls: type[R], number: int) -> tuple[R, ...]:
        """Return the records of a round that `_keep` kept."""
        types = attrs.fields_dict(cls)  # type: ignore[arg-type]
        rows = self._db.execute(
            f"SELECT {', '.join(types)} FROM {table} WHERE round = ? ORDER BY place", (number,)
        )
        read = {name: _READ.get(str(field.type), _as_it_is) for name, field in types.items()}
        return tuple(
            cls(**{name: read[name](value) for name, value in zip(types, row, strict=True)})
            for row in rows.fetchall()
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            busy = "locked" in str(error) or "busy" in str(error)
            raise KnowledgeError(
                "the knowledge base is busy" if busy else "the knowledge base cannot be used",
                where=self.path,
                got=error,
                next_step="wait for the run that holds it"
                if busy
                else "make room on the disk, then --resume"
                if "full" in str(error)
                else "restore a copy of it",
            ) from error
        except sqlite3.DatabaseError as error:
            raise KnowledgeError(
                "the knowledge base is damaged",
                where=self.path,
                got=error,
                next_step="restore a copy of it; the releases beside it are whole",
            ) from error


def packed(states: ArrayLike) -> bytes:
    """Return float64 numbers as bytes."""
    return np.ascontiguousarray(states, dtype=np.float64).tobytes()


def unpacked(blob: bytes) -> tuple[float, ...]:
    """Return the numbers of `blob`."""
    return tuple(np.frombuffer(blob, dtype=np.float64).tolist())


def unpacked_rows(blob: Any, width: int) -> Array:
    """Return the numbers of `blob` as an array `[n, width]`."""
    return np.frombuffer(blob, dtype=np.float64).reshape(-1, width).copy()


def storable(value: Any) -> Any:
    """Return text without what UTF-8 cannot hold, such as half of a surrogate pair."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _as_it_is(value: Any) -> Any:
    return value


def _from_list(text: str) -> tuple[float, ...]:
    return tuple(json.loads(text))


# How a column is read that SQLite has no type for.
_READ: dict[str, Callable[[Any], Any]] = {"bool": bool, "tuple[float, ...]": _from_list}
