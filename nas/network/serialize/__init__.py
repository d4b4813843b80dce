"""Networks as ONNX models and ExecuTorch programs."""
