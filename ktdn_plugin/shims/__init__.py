"""KTDN in training programs that find networks as files: traiNNer-redux and neosr."""
