"""What a worker process of this machine does first: it starts TensorFlow, and keeps quiet."""

import logging
import signal

from tfprune.tflite import convert

# Ctrl-C reaches all processes of a terminal. The main one ends the others.
signal.signal(signal.SIGINT, signal.SIG_IGN)
logging.getLogger("tensorflow").setLevel(logging.ERROR)
with convert.quiet([]):  # it looks for accelerators, and says so at length
    import tensorflow as tf

    tf.config.list_logical_devices()
