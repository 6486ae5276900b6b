# One build for both sources: the play makes the image, the manifest records what was made.

locals {
  project = var.project == "" ? "${path.root}/.." : var.project
}

build {
  sources = ["source.null.local", "source.amazon-ebs.ami"]

  provisioner "ansible" {
    playbook_file = "${local.project}/ansible/image.yml"

    # Packer's own ssh proxy is many times slower and uses a key type that current OpenSSH refuses.
    use_proxy = false
    # The default is the user who runs Packer.
    user = var.user

    # Files, so that the play can be replayed by hand with the same variables.
    extra_arguments = [
      "--extra-vars", "@${var.facts_file}",
      "--extra-vars", "@${var.vars_file}",
    ]

    ansible_env_vars = [
      "ANSIBLE_CONFIG=${local.project}/ansible/ansible.cfg",
      # The machine is new, so its host key is not known.
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
