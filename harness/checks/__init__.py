"""A check: what the newest night is held against, which suspects run again, what is said in the end."""
