"""Probes of states that are unlike the demonstrations, scored or drawn."""
