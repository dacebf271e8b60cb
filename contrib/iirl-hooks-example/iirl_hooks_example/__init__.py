"""Lifecycle hooks for iirl-engine: a notifier, metrics, a policy on training data."""
