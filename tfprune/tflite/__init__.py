"""TFLite (LiteRT) files: converted, verified against Keras, measured, and one recommended."""
