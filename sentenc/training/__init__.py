"""Making models: teacher vectors and distillation."""
