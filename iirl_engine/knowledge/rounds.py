"""What a finished round leaves in a knowledge base, committed at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import attrs

from iirl_engine.evidence import Judgement
from iirl_engine.knowledge.database import storable
from iirl_engine.knowledge.findings import Findings
from iirl_engine.knowledge.releases import Releases
from iirl_engine.mended import Attempt, Conflict, LeftOpen, Prediction
from iirl_engine.records import AuditSummary, Concern, Region, Remaining, Round

_APART = ("audits", "gates", "vetoes", "remaining", "predictions", "attempts", "conflicts")
_ROUND = tuple(name for name in attrs.fields_dict(Round) if name not in _APART)
_REMAINING = tuple(attrs.fields_dict(Remaining))


class Rounds(Findings, Releases):
    """What a round leaves: its audits, the repair after them, and the release it made."""

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
                self._keep_release(summary.release, manifest, made, fingerprints or {})
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
            self._keep("audit", summary.number, audits)
            self._keep_concerns(summary.number, concerns)
            self._db.executemany(
                "INSERT INTO judgement VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (summary.number, i, g.gate, g.ok, json.dumps(dict(g.numbers)), told)
                    for i, g in enumerate(gates)
                    for told in [storable(g.reason)]
                ),
            )
            self._db.executemany(
                "INSERT INTO veto VALUES (?, ?)",
                ((summary.number, storable(reason)) for reason in vetoes),
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
                ((storable(why), flaw) for flaw, why in (open_because or {}).items()),
            )

    def rounds(self) -> tuple[Round, ...]:
        """Return the finished rounds."""
        with self._errors():
            columns = ", ".join(_ROUND)
            rows = self._db.execute(f"SELECT {columns} FROM round ORDER BY number").fetchall()
            return tuple(
                Round(
                    **dict(zip(_ROUND, row, strict=True)),
                    audits=self._kept("audit", AuditSummary, row[0]),
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

    def left_open(self) -> tuple[LeftOpen, ...]:
        """Return why flaws stay open, those of the same reason together, the most first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT open_because, count(*) AS flaws, min(id) FROM flaw"
                " WHERE closed_in IS NULL AND open_because IS NOT NULL"
                " GROUP BY open_because ORDER BY flaws DESC, min(id)"
            ).fetchall()
        return tuple(LeftOpen(*row) for row in rows)

    def _remaining(self, number: int) -> Remaining | None:
        columns = ", ".join(_REMAINING)
        row = self._db.execute(f"SELECT {columns} FROM remaining WHERE round = ?", (number,))
        told = row.fetchone()
        return None if told is None else Remaining(*told)
