"""semipose: 2D pose models from a few labeled and many unlabeled images."""
