"""The demo: a local Replicate and a Prefect server for as long as somebody looks."""
