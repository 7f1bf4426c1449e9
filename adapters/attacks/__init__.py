"""Attacks on released weights: what an attacker does, with the ecosystem's own tools."""
