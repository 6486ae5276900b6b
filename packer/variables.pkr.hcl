# What the build is told. `make image` sets all of these; the defaults let `packer validate` read the directory.

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

variable "local_user" {
  type        = string
  default     = "admin"
  description = "User of the local machine, with sudo and no password."
}

variable "local_key" {
  type        = string
  default     = ""
  description = "Private ssh key that the local machine's user accepts; empty: ask the ssh agent."
}
