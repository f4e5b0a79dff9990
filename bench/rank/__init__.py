"""One rank of a trial: from the case to its record."""
