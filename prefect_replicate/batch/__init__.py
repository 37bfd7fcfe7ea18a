"""Many items at once: read, split into parts, worked on here or elsewhere, and shown."""
