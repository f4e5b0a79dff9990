"""One rank that runs a user's program, unchanged, and measures it from outside."""
