# One build for every source: the play makes the image, the manifest says what was made.

locals {
  project = var.project == "" ? "${path.root}/.." : var.project
}

build {
  sources = ["source.null.local", "source.amazon-ebs.ami"]

  provisioner "ansible" {
    playbook_file = "${local.project}/ansible/image.yml"

    # Packer's own ssh proxy is many times slower and offers a key type that OpenSSH refuses today.
    use_proxy = false
    # Otherwise the user who runs Packer.
    user = var.user

    # A file each, not one long string: the same two serve to replay the play by hand.
    extra_arguments = [
      "--extra-vars", "@${var.facts_file}",
      "--extra-vars", "@${var.vars_file}",
    ]

    ansible_env_vars = [
      "ANSIBLE_CONFIG=${local.project}/ansible/ansible.cfg",
      # The machine is new, so no one knows its host key.
      "ANSIBLE_HOST_KEY_CHECKING=False",
      "ANSIBLE_NOCOLOR=True",
    ]
  }

  post-processor "manifest" {
    output     = var.manifest
    strip_path = true
    custom_data = {
      version    = var.version
      git_commit = var.git_commit
    }
  }
}
