# The local machine: a disk image that factory/ has booted under systemd-nspawn. Packer only connects to it by ssh; the
# artifact is the disk image, which factory/ manages.
source "null" "local" {
  ssh_host             = var.local_host
  ssh_port             = var.local_port
  ssh_username         = var.user
  ssh_private_key_file = var.local_key
  ssh_agent_auth       = var.local_key == ""
}
