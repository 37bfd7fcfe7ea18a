"""Replicate over HTTP: requests through the official client, replies parsed by us.

`replicate` 1.0.7 provides the authentication, base URL, user agent and transport. Its reply parsing
is not used: it raises on the status `aborted` (one such item breaks a whole list page) and on a
missing `version` or `model`, and drops `deadline`, `data_removed` and `invalid_fields`.
"""
