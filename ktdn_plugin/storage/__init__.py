"""Files that hold tensors: read without trusting them."""
