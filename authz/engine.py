"""Engine: the corridor."""
