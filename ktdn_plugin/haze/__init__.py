"""What haze and a camera make of a clear photograph, for training data that carries over."""
