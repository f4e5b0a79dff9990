"""Values that cross a process or file boundary. Imports nothing else of this project."""
