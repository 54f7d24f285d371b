"""Training of any method: the loop on Lightning Fabric, optimisers, checkpoints, monitors."""
