"""Sections of a page: figures of streams, of online streams, of alignment."""
