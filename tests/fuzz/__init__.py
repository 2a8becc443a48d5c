"""Damaged and hostile files of every kind that the tool reads, given to the real commands.

python -m tests.fuzz --seed 0 --count 2000      what they end with, and every fault
"""
