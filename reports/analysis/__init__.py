"""Pure functions of recorded numbers."""
