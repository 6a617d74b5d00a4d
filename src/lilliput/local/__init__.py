"""The mini's engine: a supervised llama.cpp process and the weights it serves."""
