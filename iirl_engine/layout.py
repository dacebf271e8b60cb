"""Where the files of a run and of a release lie."""

from __future__ import annotations

CHAIN = "chain.toml"
KNOWLEDGE = "knowledge.sqlite"
RELEASES = "releases"
LOCK = ".lock"
AUDITS = "audits"
AUDIT = "audit.json"
CHANNELS = "channels"
STABLE = "stable.json"

MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
CARD = "CARD.md"
