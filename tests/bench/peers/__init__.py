"""Other stream processors beside Heed, on the same events, the same tables and the same statements."""
