"""``medley grid``: many cells of many configs, in processes beside each other."""
