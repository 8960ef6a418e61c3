"""``medley finetune``: an encoder learns classes, or texts: whole, its head, or LoRA."""
