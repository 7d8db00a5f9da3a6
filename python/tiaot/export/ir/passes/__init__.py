"""Passes: functions from Function to Function, a file for each. What they do not recognise they leave alone where that
is safe, and refuse where it is not."""
