# Variables that factory/ sets itself, all of them. The defaults are for `packer validate`.
# The variables that a user sets for an AMI are in variables.pkr.hcl.

variable "version" {
  type        = string
  default     = "0.0.0"
  description = "Version of preheat, as in runtime/VERSION; recorded in the manifest."
}

variable "git_commit" {
  type        = string
  default     = "unknown"
  description = "Commit that the image is built from; recorded in the manifest."
}

variable "vars_file" {
  type        = string
  default     = "ansible/models/whisper-nato.yml"
  description = "Ansible variables that say what to bake: the model, and any other input of the roles."
}

variable "facts_file" {
  type        = string
  default     = "build/run/image/facts.json"
  description = "Ansible variables that only the build host knows: commit, source image, certificates."
}

variable "manifest" {
  type        = string
  default     = "build/manifest.json"
  description = "Where Packer writes what it built."
}

variable "project" {
  type        = string
  default     = ""
  description = "The project's folder; empty is the folder above this one. Set for a staged copy of the template."
}

# A null source without a host fails `packer validate` for every source, hence the harmless defaults below.

variable "local_host" {
  type        = string
  default     = "127.0.0.1"
  description = "Address at which the local machine answers ssh."
}

variable "local_port" {
  type        = number
  default     = 22
  description = "Port at which the local machine answers ssh."

  validation {
    condition     = var.local_port > 0 && var.local_port < 65536
    error_message = "The port must be between 1 and 65535."
  }
}

variable "user" {
  type        = string
  default     = "admin"
  description = "User of the machine with passwordless sudo, as created by Debian's cloud-init."
}

variable "local_key" {
  type        = string
  default     = ""
  description = "Private ssh key for the local machine's user; empty: use the ssh agent."
}

# For the source amazon-ebs: one attempt, with one instance type in one subnet.

variable "instance_type" {
  type        = string
  default     = "g6.xlarge"
  description = "Type of the instance that this attempt launches, one of instance_types."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "Subnet of this attempt; empty: the default one."
}

variable "root_device" {
  type        = string
  default     = "/dev/xvda"
  description = "Device name of the source AMI's root volume, which the builder's gets as well."
}

variable "security_group_id" {
  type        = string
  default     = "none"
  description = "Security group that allows ssh from this host only."
}

variable "startup_file" {
  type        = string
  default     = ""
  description = "File of user data for the builder's cloud-init, which terminates it at its deadline."
}

variable "ami_name" {
  type        = string
  default     = "preheat"
  description = "Name of the AMI, with a digest of its inputs."
}

variable "inputs" {
  type        = string
  default     = "unknown"
  description = "Digest of the AMI's inputs; a tag of the AMI."
}

variable "run" {
  type        = string
  default     = "preheat"
  description = "Name of this run, used for its key pair and as a tag of everything it creates."
}

variable "ec2_endpoint" {
  type        = string
  default     = ""
  description = "Address of a mock of EC2; empty: EC2 itself."
}

variable "instance_host" {
  type        = string
  default     = ""
  description = "Address of a machine in place of the instance; empty: the instance itself."
}

variable "instance_port" {
  type        = number
  default     = 22
  description = "Port at which the instance answers ssh."
}
