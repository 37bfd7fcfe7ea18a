"""The parameters that video models share, by whatever names."""
