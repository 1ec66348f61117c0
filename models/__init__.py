"""PyTorch architectures, one a file, and the scripts that train what `models/zoo` ships."""
