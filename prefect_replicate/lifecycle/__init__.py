"""A prediction's life as seen from a flow run: created once, waited for, canceled, recorded.

Here the API and the ledger meet; all of it runs on the engine's loop.
"""
