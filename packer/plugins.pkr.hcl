# For Packer 1.7 and newer; factory/packer.py leaves this file out for older ones.
packer {
  # The first version that gets these plugins from HashiCorp's releases site, their only source, even behind a proxy.
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
