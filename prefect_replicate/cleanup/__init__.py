"""Canceling what no run waits for: the state hook of one run, and the sweep over all runs."""
