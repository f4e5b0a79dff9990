"""From a suite and options to the cases of a sweep."""
