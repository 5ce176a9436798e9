"""SProBench: lines of text from sensors, passed on, parsed, and averaged over windows."""
