"""What the package costs, measured as ratios within one run."""
