"""The plugin passes the conformance kit."""

from __future__ import annotations

from iirl_engine.testing import Check, conformance


@conformance("iirl-certify")
def test_the_plugin_conforms(check: Check) -> None:
    check()
