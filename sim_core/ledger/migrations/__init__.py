"""Steps from each schema of the ledger database to the next."""
