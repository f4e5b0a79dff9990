"""Values that cross a process or a file boundary. Imports nothing of ours."""
