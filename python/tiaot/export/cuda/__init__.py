"""The exporter for CUDA: what a module has for NVIDIA GPUs. Needs no GPU and no CUDA toolkit but ptxas."""
