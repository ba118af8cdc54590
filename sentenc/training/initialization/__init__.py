"""Initial weights of students."""
