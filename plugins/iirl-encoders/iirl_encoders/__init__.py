"""Encoders and mappings for iirl-engine."""
