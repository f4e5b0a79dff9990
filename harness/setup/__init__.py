"""What the first command builds and fetches, and what is installed."""
