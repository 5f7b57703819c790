"""Laws that the model must reproduce: exact values, and how results are compared with them.

Formulas (`votes`, `gossip`, `epidemic`, `charts`, `scores`) know nothing of the model; `readings` ties
them to configurations and runs, `findings` judges, `catalogue` lists the laws.
"""
