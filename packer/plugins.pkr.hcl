# Read by Packer 1.7 and newer only; factory/packer.py leaves this file out for an older one, and no other.
packer {
  required_version = ">= 1.11.0"

  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "= 1.8.3"
    }
    ansible = {
      source  = "github.com/hashicorp/ansible"
      version = "= 1.1.7"
    }
  }
}
