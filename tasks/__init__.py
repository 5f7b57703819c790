"""One step of an experiment per module: each touches one service, none imports another."""
