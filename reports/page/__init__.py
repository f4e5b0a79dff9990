"""The HTML page: values to figures and tables to one file."""
