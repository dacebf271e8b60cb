"""Corrections of a reward, kept as data: listed, stored in a release, and taken away again.

A corrected reward is clip(base - suppression + lift, 0, 1), each summed over the corrections.
One module for each kind; `restore` makes one again from what a release says of it.
"""
