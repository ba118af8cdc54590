"""Adapters of encoders and indexes to other libraries: one module for each library, imported only when it is used."""
