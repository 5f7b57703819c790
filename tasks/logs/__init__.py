"""What is logged, by whom about which run, and where it is written."""
