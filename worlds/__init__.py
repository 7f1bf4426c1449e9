"""How the embedded models came to be: the avatar world, its data sets, base-model training."""
