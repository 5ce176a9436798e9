"""How fast hpcstream is: workloads, peers, one command. See docs/benchmarks.md."""
