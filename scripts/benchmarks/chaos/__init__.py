"""Flow runs that are canceled, killed and retried at random moments, and what was paid for them."""
