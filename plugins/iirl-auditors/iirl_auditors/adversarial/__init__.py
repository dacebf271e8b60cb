"""Searches for the states that deceive the reward most."""
