"""One small script per job, and the Hydra configuration. Installed as ``vje_pyro.experiments``."""
