"""`python -m onnxprune.cli`."""

from onnxprune.cli import main

main()
