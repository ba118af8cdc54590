"""Training of encoders and task classifiers: run files, students, teachers, losses and the training loop."""
