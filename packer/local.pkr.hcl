# The local machine: a disk image that factory/ has booted under systemd-nspawn. Packer only speaks ssh to it; the
# disk image is the artifact, and factory/ takes care of it.
source "null" "local" {
  ssh_host             = var.local_host
  ssh_port             = var.local_port
  ssh_username         = var.user
  ssh_private_key_file = var.local_key
  ssh_agent_auth       = var.local_key == ""
}
