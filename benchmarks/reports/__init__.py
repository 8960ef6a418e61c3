"""What is made of results: tables, pages, charts, pictures; from ``result.json`` files alone."""
