"""Sensitivity: what changes the loss, or a layer's output, little, matters little."""
