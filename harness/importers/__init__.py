"""Other tools' files into series."""
