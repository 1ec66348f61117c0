"""onnxruntime on the CPU."""

from onnxprune.latency.runtimes.sessions import CPU, Provider

ORT_CPU = Provider("cpu", CPU)
