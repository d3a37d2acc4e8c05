"""What upstreams speak: one package for each format. No I/O."""
