"""Pages over several sweeps, exports, and what CI keeps between nights."""
