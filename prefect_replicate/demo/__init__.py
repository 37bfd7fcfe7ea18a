"""The demo: a local Replicate and a temporary Prefect server."""
