"""The command line's commands that are more than a few lines: options in, one call, an exit code out."""
