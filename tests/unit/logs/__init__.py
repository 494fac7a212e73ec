"""Tests of pyfpm/logs."""
