"""Defines the operators: batches and watermarks in, batches out."""
