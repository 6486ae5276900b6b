# Read by Packer 1.7 and newer only; factory/packer.py leaves this file out for an older one, and no other.
packer {
  # The first that fetches these plugins from HashiCorp's releases site, behind a proxy too: they are nowhere else.
  required_version = ">= 1.14.1"

  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "= 1.8.3"
    }
    ansible = {
      source  = "github.com/hashicorp/ansible"
      version = "= 1.1.6"
    }
  }
}
