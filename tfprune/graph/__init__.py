"""What a model is made of: its layers' calls, its kernels, and what they cost."""
