"""What objectives share: batches of all processes, work in tiles, blocks of logits."""
