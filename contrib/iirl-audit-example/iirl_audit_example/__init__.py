"""An auditor for iirl-engine: lines through pairs of expert states."""
