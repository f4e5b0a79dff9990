"""Anyone's numbers as tables: read, put in order, and told where they are wrong."""
