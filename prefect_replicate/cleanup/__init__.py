"""Ending what nobody waits for: the state hook of a run, and the sweep over all of them."""
