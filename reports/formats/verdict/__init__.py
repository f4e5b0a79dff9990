"""A verdict for the terminal, JUnit, Markdown and JSON."""
