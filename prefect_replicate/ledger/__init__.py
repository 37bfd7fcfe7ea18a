"""What a flow run has started at Replicate, kept in Prefect's own API.

Any worker, hook, retry and person can read it there. Each prediction has a record, an artifact of
the type `replicate-prediction`: written as an intent before the paid call, completed with the id
after it, and with the outcome at the end.
"""
