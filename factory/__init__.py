"""What runs on the build host: make a base disk, boot it, let Packer build on it, keep the result."""
