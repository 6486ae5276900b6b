# The settings of an AMI: `make ami SETTINGS=my.pkrvars.hcl`. The table in docs/ami.md is generated from this file.
# Patterns are checked with regex_replace, because the oldest supported Packer has no better function.

variable "region" {
  type        = string
  default     = "us-east-1"
  description = "Region to build in."

  validation {
    condition     = var.region != "" && regex_replace(var.region, "^[a-z]{2}(-[a-z]+)+-[0-9]+$", "") == ""
    error_message = "The region must be a region's code, such as us-east-1."
  }
}

variable "instance_types" {
  type        = list(string)
  default     = ["g6.xlarge", "g5.xlarge"]
  description = "Instance types to build on; the first one with capacity in some zone is used."

  validation {
    condition     = length(var.instance_types) > 0
    error_message = "The list instance_types must name an instance type, such as g6.xlarge."
  }
}

variable "spot" {
  type        = bool
  default     = false
  description = "Build on a spot instance: cheaper, but EC2 may interrupt it."
}

variable "builder_hours" {
  type        = number
  default     = 6
  description = "Hours after which the builder terminates itself, even if this host no longer can."

  validation {
    condition     = var.builder_hours >= 1 && var.builder_hours <= 48
    error_message = "The builder_hours must be between 1 and 48."
  }
}

variable "verify" {
  type        = bool
  default     = true
  description = "Launch the AMI once and test it before it is copied and named in ssm_parameter."
}

variable "subnet_ids" {
  type        = list(string)
  default     = []
  description = "Subnets to build in, tried in turn; each must have a route to the internet. Empty: the default VPC's, one in each zone."

  validation {
    condition     = length([for id in var.subnet_ids : id if id == "" || regex_replace(id, "^subnet-[0-9a-f]+$", "") != ""]) == 0
    error_message = "The list subnet_ids must contain ids of subnets, such as subnet-0123456789abcdef0."
  }
}

variable "ssh_cidrs" {
  type        = list(string)
  default     = []
  description = "Networks that may reach the builder's ssh port. Empty: only this host's public address."

  validation {
    condition     = length([for cidr in var.ssh_cidrs : cidr if cidr == "" || regex_replace(cidr, "^([0-9]{1,3}[.]){3}[0-9]{1,3}/[0-9]{1,2}$", "") != ""]) == 0
    error_message = "The list ssh_cidrs must contain networks, such as 203.0.113.7/32."
  }
}

variable "ssh_interface" {
  type        = string
  default     = "public_ip"
  description = "Address by which this host reaches the builder: public_ip, or private_ip; then the builder gets no public address, and ssh_cidrs must be set."

  validation {
    condition     = var.ssh_interface == "public_ip" || var.ssh_interface == "private_ip"
    error_message = "The ssh_interface must be public_ip or private_ip."
  }
}

variable "iam_instance_profile" {
  type        = string
  default     = ""
  description = "Instance profile of the builder, by name; the identity that runs make ami must be allowed iam:PassRole on its role. Empty: none."

  validation {
    condition     = regex_replace(var.iam_instance_profile, "^[A-Za-z0-9+=,.@_-]{1,128}$", "") == ""
    error_message = "The iam_instance_profile must be the name of an instance profile, not its ARN."
  }
}

variable "user_data_file" {
  type        = string
  default     = ""
  description = "File of user data for the builder's cloud-init, such as proxy settings, in addition to preheat's own. Empty: none."
}

variable "source_ami" {
  type        = string
  default     = ""
  description = "Id of the AMI to start from, even if it is deprecated. Empty: the newest one by source_ami_name."

  validation {
    condition     = regex_replace(var.source_ami, "^ami-[0-9a-f]+$", "") == ""
    error_message = "The source_ami must be the id of an AMI, such as ami-0123456789abcdef0."
  }
}

variable "source_ami_name" {
  type        = string
  default     = "debian-12-amd64-*"
  description = "Name of the AMI to start from, with wildcards; it must be Debian 12 for x86_64."
}

variable "source_ami_owner" {
  type        = string
  default     = "136693071363"
  description = "Account that must own the AMI to start from. The default is Debian's."

  validation {
    condition     = var.source_ami_owner != "" && regex_replace(var.source_ami_owner, "^[0-9]{12}$", "") == ""
    error_message = "The source_ami_owner must be an account id of 12 digits."
  }
}

variable "volume_size" {
  type        = number
  default     = 24
  description = "Size of the root volume, in GiB. The image takes 7 without driver and model; large-v3 and its state file 6."

  validation {
    condition     = var.volume_size >= 16 && var.volume_size <= 16384
    error_message = "The volume_size must be between 16 and 16384 GiB."
  }
}

variable "volume_iops" {
  type        = number
  default     = 3000
  description = "Operations per second of the gp3 volume, of the builder and of every instance started from the AMI."

  validation {
    condition     = var.volume_iops >= 3000 && var.volume_iops <= 16000
    error_message = "The volume_iops must be between 3000 and 16000."
  }
}

variable "volume_throughput" {
  type        = number
  default     = 500
  description = "Throughput of the same volumes, in MiB/s; it limits how fast a state file is read on a cold start."

  validation {
    condition     = var.volume_throughput >= 125 && var.volume_throughput <= 1000
    error_message = "The volume_throughput must be between 125 and 1000 MiB/s."
  }
}

variable "encrypted" {
  type        = bool
  default     = true
  description = "Encrypt the AMI's snapshot, and every copy of it."
}

variable "kms_key_id" {
  type        = string
  default     = ""
  description = "KMS key to encrypt with, in the region of the build. Empty: the account's default key, which other accounts cannot use."
}

variable "copy_regions" {
  type        = map(string)
  default     = {}
  description = "Regions to copy the AMI to, each with the KMS key to use there (empty: the account's default key)."
}

variable "share_with" {
  type        = list(string)
  default     = []
  description = "Accounts that may launch the AMI. Empty: only yours."

  validation {
    condition     = length([for id in var.share_with : id if id == "" || regex_replace(id, "^[0-9]{12}$", "") != ""]) == 0
    error_message = "The list share_with must contain account ids of 12 digits."
  }
}

variable "name_prefix" {
  type        = string
  default     = "preheat"
  description = "Start of the AMI's name; version and a digest of the inputs follow."

  validation {
    condition     = var.name_prefix != "" && regex_replace(var.name_prefix, "^[A-Za-z0-9][A-Za-z0-9._/-]{0,59}$", "") == ""
    error_message = "The name_prefix must be 1 to 60 letters, digits and ._/- and begin with a letter or digit."
  }
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Additional tags for the AMI, its snapshots and the builder."
}

variable "ssm_parameter" {
  type        = string
  default     = "/preheat/ami"
  description = "SSM parameter that is set to the AMI's id, in each region."

  validation {
    condition     = var.ssm_parameter != "" && regex_replace(var.ssm_parameter, "^(/[A-Za-z0-9._-]+)+$", "") == ""
    error_message = "The ssm_parameter must be a path such as /preheat/ami."
  }
}

variable "deprecate_after" {
  type        = number
  default     = 180
  description = "Days until the AMI is deprecated: still usable, no longer listed."

  validation {
    condition     = var.deprecate_after >= 1 && var.deprecate_after <= 3650
    error_message = "The deprecate_after must be between 1 and 3650 days."
  }
}
