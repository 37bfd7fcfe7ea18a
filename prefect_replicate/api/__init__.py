"""Replicate over HTTP: requests through the official client, replies read by ourselves.

`replicate` 1.0.7 brings the authentication, the base URL, the user agent and the transport. Its
reading of replies is not used, since it raises on the status `aborted` (a whole list page with
it), on a missing `version` or `model`, and drops `deadline`, `data_removed` and `invalid_fields`.
"""
