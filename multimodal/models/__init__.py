"""Models of several parts: towers that meet in one space, and the tasks that train them."""
