"""Steering audits to where the domain is least probed and the reward least certain."""
