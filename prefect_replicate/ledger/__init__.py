"""A record of what a flow run has started at Replicate, kept in Prefect's own API.

Any worker, hook or retry can read it there: facts about each paid call, each written once, as
inputs of the flow run at the top.
"""
