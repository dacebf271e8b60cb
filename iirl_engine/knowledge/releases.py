"""What a knowledge base knows of releases, and what happened that is worth knowing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from iirl_engine.knowledge.database import Database, storable
from iirl_engine.records import Released


class Releases(Database):
    """Releases, the flaws that their corrections closed, and events."""

    def add_release(
        self, number: int, manifest: str, made: str, fingerprints: Mapping[str, str]
    ) -> None:
        """Name a release that is durable on disk, with the fingerprints of its parts."""
        with self._transaction():
            self._keep_release(number, manifest, made, fingerprints)

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
            self._db.execute("INSERT INTO event VALUES (?, ?, ?)", (at, number, storable(text)))

    def events(self) -> list[tuple[str, int, str]]:
        """Return (time, round, text) of every event."""
        with self._errors():
            return self._db.execute("SELECT at, round, text FROM event ORDER BY rowid").fetchall()

    def _keep_release(
        self, number: int | None, manifest: str, made: str, fingerprints: Mapping[str, str]
    ) -> None:
        self._db.execute(
            "INSERT INTO release VALUES (?, ?, ?, ?)",
            (number, manifest, made, json.dumps(dict(fingerprints))),
        )
