"""Run files as dataclasses. Importable without torch."""
