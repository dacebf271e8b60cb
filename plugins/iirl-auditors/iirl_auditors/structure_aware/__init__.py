"""Probes that read the parts of the reward instead of searching for what they do."""
