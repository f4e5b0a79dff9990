"""The cells of a sweep as text and as one HTML file."""
