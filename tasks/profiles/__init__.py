"""Runs under a profiler: what took the time, what held the memory, and what that means.

pyinstrument and memray are imported here alone, and only where a run is profiled.
"""
