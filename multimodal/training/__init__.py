"""The one fit loop and its parts."""
