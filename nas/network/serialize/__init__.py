"""Networks as bytes that other runtimes read: ONNX and ExecuTorch programs."""
