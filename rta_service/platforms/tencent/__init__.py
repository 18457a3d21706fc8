"""Tencent Ads, first-stage RTA requests."""
