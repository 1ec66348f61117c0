"""Object detection with YOLOv3: loss, decoding, mean average precision, and a synthetic task to train on a CPU."""
