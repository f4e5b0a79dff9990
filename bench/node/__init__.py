"""One node of a trial: the agent that starts its ranks, watches them and says how they ended."""
