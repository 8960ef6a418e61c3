"""Avalanche's plugins on any learner: which ones work, what they read, what they may not do.

A plugin may read batches, outputs and weights, add to the loss, and change gradients, weights and
learning rates. What a learner brings itself it may not replace: the training data, the model, its
head and its loss. ``known.REFUSED`` names the plugins of Avalanche 0.6.0 that would; others that
try are found out while they train, and so are losses and weights that are no numbers any more.
"""
