"""Structure search: which width every group should have. Knows neither torch nor onnx.

Samplers propose structures and learn their scores (`bees`, `controls`); a fitness judges one; executors judge many at
a time; the journal remembers every judgement; `run` puts them together.
"""
