"""The parameters that video models share, and what the Prefect UI shows of a video."""
