"""MedGRPO: structured medical reasoning, learned by reward. Educational software, never a medical device."""

__version__ = "0.1.0"
