"""Many videos at once: read, cut into parts, worked on here or elsewhere, shown."""
