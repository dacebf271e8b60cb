"""The plugin passes the conformance kit."""

from iirl_engine.testing import Check, conformance


@conformance("iirl-audit-example")
def test_the_plugin_conforms(check: Check) -> None:
    check()
