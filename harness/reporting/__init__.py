"""From a stored sweep to its cells, its JSON document, its page and what is written beside that."""
