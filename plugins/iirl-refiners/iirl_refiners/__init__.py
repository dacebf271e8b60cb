"""Refiners for iirl-engine."""
