"""Probes of how the reward goes on beyond the support."""
