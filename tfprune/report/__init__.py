"""What a run gained, for people: a console table and a self-contained HTML page of a record."""
