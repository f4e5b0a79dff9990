"""Plain machines by ssh."""
