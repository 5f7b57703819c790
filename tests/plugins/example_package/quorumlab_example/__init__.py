"""A detector, an adversary and a traffic source that quorumlab finds by their entry points."""
