"""The tables of a knowledge base."""

from __future__ import annotations

VERSION = 9

TABLES = """
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
    flawed INTEGER NOT NULL, budget INTEGER NOT NULL, exhaustive INTEGER NOT NULL,
    PRIMARY KEY (round, place)
) STRICT;
CREATE TABLE concern (
    round INTEGER NOT NULL, place INTEGER NOT NULL, auditor TEXT NOT NULL, kind TEXT NOT NULL,
    text TEXT NOT NULL, numbers TEXT NOT NULL, states TEXT NOT NULL, grave INTEGER NOT NULL,
    PRIMARY KEY (round, place)
) STRICT;
CREATE TABLE result (
    round INTEGER NOT NULL, auditor TEXT NOT NULL, status TEXT NOT NULL, states BLOB NOT NULL,
    suspects INTEGER NOT NULL,
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
