"""What the numbers say, in other formats than the page."""
