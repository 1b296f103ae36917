"""From a profile and a router to a trade-off curve, AUC-Policy, baselines and intervals."""
