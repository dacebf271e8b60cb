"""The knowledge base: every audit, flaw, judgement and release of a run, in one SQLite file.

Write-ahead log with `synchronous=FULL`: what was committed survives a killed process and a power
cut. Every number of a report is a row here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from iirl_engine.demonstrations import read_only
from iirl_engine.errors import KnowledgeError
from iirl_engine.evidence import Judgement
from iirl_engine.layout import KNOWLEDGE
from iirl_engine.mended import Attempt, Conflict, LeftOpen, Prediction
from iirl_engine.records import (
    AuditResult,
    AuditSummary,
    Concern,
    Flaws,
    Region,
    Released,
    Remaining,
    Round,
)

Array = NDArray[np.float64]
R = TypeVar("R")

SCHEMA_VERSION = 8

_SCHEMA = """
CREATE TABLE round (
    number INTEGER PRIMARY KEY, found INTEGER NOT NULL, confirmed INTEGER NOT NULL,
    closed INTEGER NOT NULL, open INTEGER NOT NULL, misses INTEGER NOT NULL,
    corrections INTEGER NOT NULL, queries INTEGER NOT NULL, seconds REAL NOT NULL,
    release INTEGER, regions INTEGER NOT NULL, open_regions INTEGER NOT NULL
) STRICT;
CREATE TABLE remaining (
    round INTEGER PRIMARY KEY, regions INTEGER NOT NULL, findings INTEGER NOT NULL,
    once INTEGER NOT NULL, twice INTEGER NOT NULL, expected REAL NOT NULL, low REAL NOT NULL,
    high REAL, unseen REAL NOT NULL, draws INTEGER NOT NULL, flawed INTEGER NOT NULL,
    volume REAL
) STRICT;
CREATE TABLE audit (
    round INTEGER NOT NULL, place INTEGER NOT NULL, auditor TEXT NOT NULL, status TEXT NOT NULL,
    found INTEGER NOT NULL, confirmed INTEGER NOT NULL, queries INTEGER NOT NULL,
    seconds REAL NOT NULL, reason TEXT NOT NULL, evidence TEXT NOT NULL,
    concerns INTEGER NOT NULL, grave INTEGER NOT NULL, draws INTEGER NOT NULL,
    flawed INTEGER NOT NULL, PRIMARY KEY (round, place)
) STRICT;
CREATE TABLE concern (
    round INTEGER NOT NULL, place INTEGER NOT NULL, auditor TEXT NOT NULL, kind TEXT NOT NULL,
    text TEXT NOT NULL, numbers TEXT NOT NULL, states TEXT NOT NULL, grave INTEGER NOT NULL,
    PRIMARY KEY (round, place)
) STRICT;
CREATE TABLE result (
    round INTEGER NOT NULL, auditor TEXT NOT NULL, status TEXT NOT NULL, states BLOB NOT NULL,
    queries INTEGER NOT NULL, seconds REAL NOT NULL, reason TEXT NOT NULL, probes BLOB NOT NULL,
    p_values BLOB, methods TEXT NOT NULL, concerns TEXT NOT NULL,
    draws INTEGER NOT NULL, flawed INTEGER NOT NULL, PRIMARY KEY (round, auditor)
) STRICT;
CREATE TABLE flaw (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, round INTEGER NOT NULL,
    auditor TEXT NOT NULL, norm TEXT NOT NULL, reward REAL NOT NULL, violation REAL NOT NULL,
    state BLOB NOT NULL, verdict TEXT NOT NULL, closed_in INTEGER, p_value REAL, method TEXT,
    region TEXT, closed_by TEXT, open_because TEXT
) STRICT;
CREATE INDEX flaw_of_region ON flaw (region);
CREATE TABLE region (
    id TEXT PRIMARY KEY, round INTEGER NOT NULL, severity REAL NOT NULL, center BLOB NOT NULL,
    radius REAL NOT NULL, low BLOB NOT NULL, high BLOB NOT NULL, nearest BLOB NOT NULL,
    distance REAL NOT NULL
) STRICT;
CREATE TABLE judgement (
    round INTEGER NOT NULL, place INTEGER NOT NULL, gate TEXT NOT NULL, ok INTEGER NOT NULL,
    numbers TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (round, place)
) STRICT;
CREATE TABLE prediction (
    round INTEGER NOT NULL, place INTEGER NOT NULL, refiner TEXT NOT NULL, by TEXT NOT NULL,
    asked INTEGER NOT NULL, withheld INTEGER NOT NULL, expected_closes INTEGER NOT NULL,
    closed INTEGER NOT NULL, closed_withheld INTEGER NOT NULL, kept INTEGER NOT NULL,
    expected_worst_loss REAL NOT NULL, worst_loss REAL NOT NULL,
    expected_mean_loss REAL NOT NULL, mean_loss REAL NOT NULL, PRIMARY KEY (round, place)
) STRICT;
CREATE TABLE attempt (
    round INTEGER NOT NULL, place INTEGER NOT NULL, corrections INTEGER NOT NULL,
    closes INTEGER NOT NULL, ok INTEGER NOT NULL, refused_by TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (round, place)
) STRICT;
CREATE TABLE conflict (
    round INTEGER NOT NULL, place INTEGER NOT NULL, flaw TEXT NOT NULL, norm TEXT NOT NULL,
    state TEXT NOT NULL, reward REAL NOT NULL, row INTEGER NOT NULL, good_state TEXT NOT NULL,
    good_reward REAL NOT NULL, distance REAL NOT NULL, lost REAL NOT NULL, cap REAL NOT NULL,
    PRIMARY KEY (round, place)
) STRICT;
CREATE TABLE veto (round INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE release (
    number INTEGER PRIMARY KEY, manifest TEXT NOT NULL, made TEXT NOT NULL,
    fingerprints TEXT NOT NULL
) STRICT;
CREATE TABLE event (at TEXT NOT NULL, round INTEGER NOT NULL, text TEXT NOT NULL) STRICT;
"""


_APART = ("audits", "gates", "vetoes", "remaining", "predictions", "attempts", "conflicts")
_ROUND = tuple(name for name in attrs.fields_dict(Round) if name not in _APART)
_AUDIT = tuple(attrs.fields_dict(AuditSummary))
_REMAINING = tuple(attrs.fields_dict(Remaining))


def _as_it_is(value: Any) -> Any:
    return value


def _from_list(text: str) -> tuple[float, ...]:
    return tuple(json.loads(text))


# How a column is read that SQLite has no type for.
_READ: dict[str, Callable[[Any], Any]] = {"bool": bool, "tuple[float, ...]": _from_list}


class Knowledge:
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
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise KnowledgeError(
                    "the knowledge base has another schema version",
                    where=self.path,
                    got=version,
                    known=[SCHEMA_VERSION],
                    next_step="use the engine version that wrote it",
                )
            self._db.execute("SELECT count(*) FROM round").fetchone()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add_result(self, number: int, result: AuditResult) -> None:
        """Keep what an auditor reported, until its round is finished."""
        probes = np.empty((0, 0)) if result.probes is None else result.probes
        row = attrs.asdict(result, recurse=False) | {
            "round": number,
            "reason": _storable(result.reason),
            "states": _blob(result.states),
            "probes": _blob(probes),
            "p_values": None if result.p_values is None else _blob(result.p_values),
            "methods": _storable(json.dumps(result.methods)),
            "concerns": json.dumps([concern.to_json() for concern in result.concerns]),
        }
        with self._transaction():
            self._db.execute(
                f"INSERT INTO result ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
                tuple(row.values()),
            )

    def ended(self, number: int, width: int) -> dict[str, AuditResult]:
        """Return auditor -> its result, for the audits of an unfinished round that have ended.

        `width` is the number of features.
        """
        columns = tuple(attrs.fields_dict(AuditResult))
        with self._errors():
            rows = self._db.execute(
                f"SELECT {', '.join(columns)} FROM result WHERE round = ? ORDER BY rowid", (number,)
            ).fetchall()
        results = (AuditResult(**dict(zip(columns, row, strict=True))) for row in rows)
        return {
            result.auditor: attrs.evolve(
                result,
                states=_rows(result.states, width),
                probes=_rows(result.probes, width),
                p_values=None if result.p_values is None else _rows(result.p_values, 1)[:, 0],
                methods=tuple(json.loads(str(result.methods))),
                concerns=tuple(map(_concern, json.loads(str(result.concerns)))),
            )
            for result in results
        }

    def audits_ended(self, number: int) -> list[str]:
        """Return the ids of the audits of an unfinished round that have ended."""
        with self._errors():
            rows = self._db.execute(
                "SELECT auditor FROM result WHERE round = ? ORDER BY rowid", (number,)
            ).fetchall()
        return [name for (name,) in rows]

    def add_flaws(self, number: int, flaws: Flaws) -> None:
        """Keep new confirmed flaws of a round; ones already known stay as they are."""
        rows = (
            (
                flaws.ids[i],
                number,
                flaws.auditors[i],
                flaws.norms[i],
                float(flaws.rewards[i]),
                float(flaws.violations[i]),
                flaws.states[i].tobytes(),
                None if np.isnan(flaws.p_values[i]) else float(flaws.p_values[i]),
                _storable(flaws.methods[i]) or None,
            )
            for i in range(len(flaws))
        )
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO flaw (id, round, auditor, norm, reward, violation, state,"
                " p_value, method, verdict) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'confirmed')",
                rows,
            )

    def flaws(self, width: int, *, before: int = 2**62) -> Flaws:
        """Return the confirmed flaws of rounds below `before`, in the order they were found.

        `width` is the number of features.
        """
        with self._errors():
            rows = self._db.execute(
                "SELECT id, state, reward, violation, norm, auditor, p_value, method, region"
                " FROM flaw WHERE round < ? ORDER BY place",
                (before,),
            ).fetchall()
        states = [np.frombuffer(row[1], dtype=np.float64) for row in rows]
        return Flaws(
            ids=tuple(row[0] for row in rows),
            states=read_only(np.stack(states) if rows else np.empty((0, width))),
            rewards=read_only(np.array([row[2] for row in rows], dtype=np.float64)),
            violations=read_only(np.array([row[3] for row in rows], dtype=np.float64)),
            norms=tuple(row[4] for row in rows),
            auditors=tuple(row[5] for row in rows),
            p_values=read_only(np.array([row[6] for row in rows], dtype=np.float64)),
            methods=tuple(row[7] or "" for row in rows),
            regions=tuple(row[8] or "" for row in rows),
        )

    def regions(self) -> tuple[Region, ...]:
        """Return the regions of all flaws: those with open flaws first, then the most severe."""
        with self._errors():
            rows = self._db.execute(
                "SELECT id, round, severity, center, radius, low, high, nearest, distance"
                " FROM region"
            ).fetchall()
            flaws = self._db.execute(
                "SELECT region, id, norm, auditor, closed_in IS NULL FROM flaw"
                " WHERE region IS NOT NULL ORDER BY reward * violation DESC, id"
            ).fetchall()
        members: dict[str, list[tuple[str, str, str, int]]] = {}
        for region, *flaw in flaws:
            members.setdefault(region, []).append(tuple(flaw))
        found = []
        for id, number, severity, center, radius, low, high, nearest, distance in rows:
            ids, norms, auditors, is_open = zip(*members[id], strict=True)
            found.append(
                Region(
                    id=id,
                    round=number,
                    flaws=ids,
                    open=sum(is_open),
                    severity=severity,
                    center=_numbers(center),
                    radius=radius,
                    low=_numbers(low),
                    high=_numbers(high),
                    nearest=_numbers(nearest),
                    distance=distance,
                    norms=tuple(sorted(set(norms))),
                    auditors=tuple(sorted(set(auditors))),
                )
            )
        return tuple(sorted(found, key=lambda r: (r.open == 0, -r.severity, r.id)))

    def finish_round(
        self,
        summary: Round,
        *,
        manifest: str | None,
        closed: Sequence[str],
        made: str,
        concerns: Sequence[Concern] = (),
        regions: Sequence[Region] = (),
        fingerprints: Mapping[str, str] | None = None,
        closed_by: Mapping[str, str] | None = None,
        open_because: Mapping[str, str] | None = None,
    ) -> None:
        """Commit a whole round at once: counts, audits, concerns, judgements, vetoes, release.

        Parameters
        ----------
        summary
            The round.
        manifest
            SHA-256 of the manifest of the release it made, already durable on disk.
        closed
            Ids of the flaws that this release closed.
        made
            Time of the release, ISO 8601.
        concerns
            What the auditors noticed that no norm can decide.
        regions
            Of the flaws that the audited reward endorsed; each flaw leaves the one it was in.
        fingerprints
            Of the release's parts.
        closed_by, open_because
            Id of a flaw -> the correction that closes it, or why it stays open.
        """
        counts = attrs.asdict(summary, recurse=False)
        audits, gates, vetoes, remaining, predictions, attempts, conflicts = (
            counts.pop(name) for name in _APART
        )
        with self._transaction():
            self._db.execute("DELETE FROM result WHERE round <= ?", (summary.number,))
            if manifest is not None:
                told = json.dumps(dict(fingerprints or {}))
                self._db.execute(
                    "INSERT INTO release VALUES (?, ?, ?, ?)",
                    (summary.release, manifest, made, told),
                )
            self._db.execute(
                f"INSERT INTO round VALUES ({', '.join('?' * len(counts))})",
                tuple(counts.values()),
            )
            if remaining is not None:
                self._db.execute(
                    f"INSERT INTO remaining VALUES (?, {', '.join('?' * len(_REMAINING))})",
                    (summary.number, *attrs.astuple(remaining)),
                )
            self._keep_regions(regions)
            self._db.executemany(
                f"INSERT INTO audit VALUES (?, ?, {', '.join('?' * len(_AUDIT))})",
                (
                    (summary.number, i, *map(_storable, attrs.astuple(a)))
                    for i, a in enumerate(audits)
                ),
            )
            self._db.executemany(
                "INSERT INTO concern VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        summary.number,
                        i,
                        c.auditor,
                        c.kind,
                        _storable(c.text),
                        *(json.dumps(c.to_json()[part]) for part in ("numbers", "states")),
                        c.grave,
                    )
                    for i, c in enumerate(concerns)
                ),
            )
            self._db.executemany(
                "INSERT INTO judgement VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (summary.number, i, g.gate, g.ok, json.dumps(dict(g.numbers)), told)
                    for i, g in enumerate(gates)
                    for told in [_storable(g.reason)]
                ),
            )
            self._db.executemany(
                "INSERT INTO veto VALUES (?, ?)",
                ((summary.number, _storable(reason)) for reason in vetoes),
            )
            self._keep("prediction", summary.number, predictions)
            self._keep("attempt", summary.number, attempts)
            self._keep("conflict", summary.number, conflicts)
            self._db.executemany(
                "UPDATE flaw SET closed_in = ?, closed_by = ?, open_because = NULL WHERE id = ?",
                (
                    (summary.release, by.get(flaw), flaw)
                    for by in [closed_by or {}]
                    for flaw in closed
                ),
            )
            self._db.executemany(
                "UPDATE flaw SET open_because = ? WHERE id = ?",
                ((_storable(why), flaw) for flaw, why in (open_because or {}).items()),
            )

    def rounds(self) -> tuple[Round, ...]:
        """Return the finished rounds."""
        with self._errors():
            columns, told = ", ".join(_ROUND), ", ".join(_AUDIT)
            rows = self._db.execute(f"SELECT {columns} FROM round ORDER BY number").fetchall()
            return tuple(
                Round(
                    **dict(zip(_ROUND, row, strict=True)),
                    audits=tuple(
                        AuditSummary(*a)
                        for a in self._db.execute(
                            f"SELECT {told} FROM audit WHERE round = ? ORDER BY place",
                            (row[0],),
                        )
                    ),
                    gates=tuple(
                        Judgement(gate, bool(ok), json.loads(numbers), reason)
                        for gate, ok, numbers, reason in self._db.execute(
                            "SELECT gate, ok, numbers, reason FROM judgement"
                            " WHERE round = ? ORDER BY place",
                            (row[0],),
                        )
                    ),
                    vetoes=tuple(
                        reason
                        for (reason,) in self._db.execute(
                            "SELECT reason FROM veto WHERE round = ?", (row[0],)
                        )
                    ),
                    remaining=self._remaining(row[0]),
                    predictions=self._kept("prediction", Prediction, row[0]),
                    attempts=self._kept("attempt", Attempt, row[0]),
                    conflicts=self._kept("conflict", Conflict, row[0]),
                )
                for row in rows
            )

    def concerns(self) -> tuple[Concern, ...]:
        """Return what auditors of finished rounds noticed that no norm can decide."""
        columns = ("round", "auditor", "kind", "text", "numbers", "states", "grave")
        with self._errors():
            rows = self._db.execute(
                f"SELECT {', '.join(columns)} FROM concern ORDER BY round, place"
            ).fetchall()
        return tuple(
            _concern(
                {
                    name: json.loads(value) if name in ("numbers", "states") else value
                    for name, value in zip(columns, row, strict=True)
                }
            )
            for row in rows
        )

    def _remaining(self, number: int) -> Remaining | None:
        columns = ", ".join(_REMAINING)
        row = self._db.execute(f"SELECT {columns} FROM remaining WHERE round = ?", (number,))
        told = row.fetchone()
        return None if told is None else Remaining(*told)

    def _keep(self, table: str, number: int, records: Sequence[Any]) -> None:
        """Keep the records of a round in the table whose columns are their fields."""
        for place, record in enumerate(records):
            values = [
                json.dumps(value) if isinstance(value, tuple) else _storable(value)
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

    def left_open(self) -> tuple[LeftOpen, ...]:
        """Return why flaws stay open, those of the same reason together, the most first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT open_because, count(*) AS flaws, min(id) FROM flaw"
                " WHERE closed_in IS NULL AND open_because IS NOT NULL"
                " GROUP BY open_because ORDER BY flaws DESC, min(id)"
            ).fetchall()
        return tuple(LeftOpen(*row) for row in rows)

    def _keep_regions(self, regions: Sequence[Region]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO region VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    region.id,
                    region.round,
                    region.severity,
                    _blob(region.center),
                    region.radius,
                    _blob(region.low),
                    _blob(region.high),
                    _blob(region.nearest),
                    region.distance,
                )
                for region in regions
            ),
        )
        self._db.executemany(
            "UPDATE flaw SET region = ? WHERE id = ?",
            ((region.id, flaw) for region in regions for flaw in region.flaws),
        )
        self._db.execute(
            "DELETE FROM region WHERE id NOT IN (SELECT region FROM flaw WHERE region IS NOT NULL)"
        )

    def add_release(
        self, number: int, manifest: str, made: str, fingerprints: Mapping[str, str]
    ) -> None:
        """Name a release that is durable on disk, with the fingerprints of its parts."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO release VALUES (?, ?, ?, ?)",
                (number, manifest, made, json.dumps(dict(fingerprints))),
            )

    def closed_by(self, correction: str) -> tuple[str, ...]:
        """Return the ids of the flaws that a correction closed and that are closed."""
        with self._errors():
            rows = self._db.execute(
                "SELECT id FROM flaw WHERE closed_by = ? ORDER BY place", (correction,)
            ).fetchall()
        return tuple(flaw for (flaw,) in rows)

    def reopen(self, flaws: Sequence[str]) -> None:
        """Have flaws count as open again, by id."""
        with self._transaction():
            self._db.executemany(
                "UPDATE flaw SET closed_in = NULL, closed_by = NULL WHERE id = ?",
                ((flaw,) for flaw in flaws),
            )

    def history(self) -> tuple[Released, ...]:
        """Return what is on record of each release, the reward as learned first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT release.number, coalesce(round.number, 0), fingerprints FROM release"
                " LEFT JOIN round ON round.release = release.number ORDER BY release.number"
            ).fetchall()
        return tuple(Released(number, made_in, json.loads(told)) for number, made_in, told in rows)

    def releases(self) -> dict[int, str]:
        """Return release number -> SHA-256 of its manifest."""
        with self._errors():
            return dict(
                self._db.execute("SELECT number, manifest FROM release ORDER BY number").fetchall()
            )

    def log(self, number: int, text: str, at: str) -> None:
        """Keep an event worth knowing of, such as an observer that raised."""
        with self._transaction():
            self._db.execute("INSERT INTO event VALUES (?, ?, ?)", (at, number, _storable(text)))

    def events(self) -> list[tuple[str, int, str]]:
        """Return (time, round, text) of every event."""
        with self._errors():
            return self._db.execute("SELECT at, round, text FROM event ORDER BY rowid").fetchall()

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


def _blob(states: ArrayLike) -> bytes:
    return np.ascontiguousarray(states, dtype=np.float64).tobytes()


def _numbers(blob: bytes) -> tuple[float, ...]:
    return tuple(np.frombuffer(blob, dtype=np.float64).tolist())


def _rows(blob: Any, width: int) -> Array:
    return np.frombuffer(blob, dtype=np.float64).reshape(-1, width).copy()


def _concern(said: dict[str, Any]) -> Concern:
    """Return a concern of what `Concern.to_json` made of it."""
    rows, grave = said.pop("states"), bool(said.pop("grave"))
    states = np.array(rows, dtype=np.float64) if rows else np.empty((0, 0))
    return Concern(**said, states=read_only(states), grave=grave)


def _storable(value: Any) -> Any:
    """Return text without what UTF-8 cannot hold, such as half of a surrogate pair."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
