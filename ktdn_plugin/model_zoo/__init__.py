"""What the named networks cost, and the table that ``ktdn models`` prints of it."""
