"""What authors write, and what it is held against: declarations, signatures, kernel files, parameters, fields."""
