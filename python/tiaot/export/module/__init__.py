"""What a module file is made of: the tables, the plain C functions and their header, the link."""
