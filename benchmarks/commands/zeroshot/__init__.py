"""``medley zeroshot``: models that know texts, on data that they were not trained on."""
