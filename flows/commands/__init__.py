"""The commands of `quorumlab`, a module for each purpose; what they need is imported when they are called."""
