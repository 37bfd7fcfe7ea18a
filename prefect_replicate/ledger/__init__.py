"""What a flow run has started at Replicate, kept in Prefect's own API.

Any worker, hook and retry can read it there: facts about each paid call, of which each is written
once, as inputs of the flow run at the top.
"""
