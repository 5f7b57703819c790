"""What the dashboard shows, read from ledger and files: no Streamlit here, and nothing is written."""
