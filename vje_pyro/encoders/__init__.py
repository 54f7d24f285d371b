"""vje_pyro.encoders"""
