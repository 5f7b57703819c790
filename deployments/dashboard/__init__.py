"""The dashboard: a thin layer of Streamlit over `flows.dashboard`."""
