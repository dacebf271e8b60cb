"""Auditors for iirl-engine: one of each family."""
