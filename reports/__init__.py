"""What the numbers say: values in, values and pages out. It reads no store and starts no process."""
