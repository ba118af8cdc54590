"""Tests of static models of other libraries."""
