"""What is launched: flows, the composition of configurations, the command line."""
