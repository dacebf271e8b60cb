"""What audits leave in a knowledge base: results, flaws, regions and concerns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from iirl_engine.demonstrations import read_only
from iirl_engine.knowledge.database import Database, packed, storable, unpacked, unpacked_rows
from iirl_engine.records import AuditResult, Concern, Flaws, Region


class Findings(Database):
    """What audits leave."""

    def add_result(self, number: int, result: AuditResult) -> None:
        """Keep what an auditor reported, until its round is finished."""
        probes = np.empty((0, 0)) if result.probes is None else result.probes
        row = attrs.asdict(result, recurse=False) | {
            "round": number,
            "reason": storable(result.reason),
            "states": packed(result.states),
            "suspects": len(result.states),
            "probes": packed(probes),
            "p_values": None if result.p_values is None else packed(result.p_values),
            "methods": storable(json.dumps(result.methods)),
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
                states=unpacked_rows(result.states, width),
                probes=unpacked_rows(result.probes, width),
                p_values=None
                if result.p_values is None
                else unpacked_rows(result.p_values, 1)[:, 0],
                methods=tuple(json.loads(str(result.methods))),
                concerns=tuple(map(_concern, json.loads(str(result.concerns)))),
            )
            for result in results
        }

    def audits_ended(self, number: int) -> dict[str, int]:
        """Return auditor -> states that it suspects, for the ended audits of an unfinished round.

        Nobody has verified them yet.
        """
        with self._errors():
            rows = self._db.execute(
                "SELECT auditor, suspects FROM result WHERE round = ? ORDER BY rowid", (number,)
            ).fetchall()
        return dict(rows)

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
                storable(flaws.methods[i]) or None,
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
                    center=unpacked(center),
                    radius=radius,
                    low=unpacked(low),
                    high=unpacked(high),
                    nearest=unpacked(nearest),
                    distance=distance,
                    norms=tuple(sorted(set(norms))),
                    auditors=tuple(sorted(set(auditors))),
                )
            )
        return tuple(sorted(found, key=lambda r: (r.open == 0, -r.severity, r.id)))

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

    def _keep_concerns(self, number: int, concerns: Sequence[Concern]) -> None:
        self._db.executemany(
            "INSERT INTO concern VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    number,
                    i,
                    c.auditor,
                    c.kind,
                    storable(c.text),
                    *(json.dumps(c.to_json()[part]) for part in ("numbers", "states")),
                    c.grave,
                )
                for i, c in enumerate(concerns)
            ),
        )

    def _keep_regions(self, regions: Sequence[Region]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO region VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    region.id,
                    region.round,
                    region.severity,
                    packed(region.center),
                    region.radius,
                    packed(region.low),
                    packed(region.high),
                    packed(region.nearest),
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


def _concern(said: dict[str, Any]) -> Concern:
    """Return a concern of what `Concern.to_json` made of it."""
    rows, grave = said.pop("states"), bool(said.pop("grave"))
    states = np.array(rows, dtype=np.float64) if rows else np.empty((0, 0))
    return Concern(**said, states=read_only(states), grave=grave)
