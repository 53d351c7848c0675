"""Tests by distance: unit, laws, contract, integration, faults, bench."""
