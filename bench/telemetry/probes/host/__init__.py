"""The host: its cores, network interfaces, memory and energy."""
