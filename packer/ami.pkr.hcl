# An EC2 instance with a GPU, and the AMI made from it. A build tries one type in one subnet: factory/ec2/ami.py
# tries the candidates in turn, and afterwards copies the AMI to other regions, shares it and sets its deprecation date.
source "amazon-ebs" "ami" {
  region        = var.region
  instance_type = var.instance_type
  spot_price    = var.spot ? "auto" : null
  subnet_id     = var.subnet_id

  # Always filter by the owner, too: anybody can publish an AMI under any name.
  source_ami_filter {
    owners      = [var.source_ami_owner]
    most_recent = true
    # By default, EC2 hides deprecated AMIs even if they are named by id. Only an AMI chosen by id may be deprecated.
    include_deprecated = var.source_ami != ""
    filters            = var.source_ami != "" ? { image-id = var.source_ami } : { name = var.source_ami_name }
  }

  # The builder's root volume; the AMI and the instances launched from it get the same size and rates.
  launch_block_device_mappings {
    device_name           = var.root_device
    volume_type           = "gp3"
    volume_size           = var.volume_size
    iops                  = var.volume_iops
    throughput            = var.volume_throughput
    encrypted             = var.encrypted
    kms_key_id            = var.kms_key_id
    delete_on_termination = true
  }

  # The builder powers off at its deadline (factory/ec2/deadline.py), which terminates it.
  user_data_file    = var.startup_file
  shutdown_behavior = "terminate"

  # EC2 itself reports a missing profile; Packer's own check would need iam:GetInstanceProfile.
  iam_instance_profile    = var.iam_instance_profile
  skip_profile_validation = true

  # Only this host can log in during the build, and the build's key does not work on the AMI.
  associate_public_ip_address = var.ssh_interface == "public_ip"
  ssh_interface               = var.ssh_interface
  security_group_id           = var.security_group_id
  temporary_key_pair_name     = var.run
  temporary_key_pair_type     = "ed25519"
  ssh_clear_authorized_keys   = true
  ssh_username                = var.user
  ssh_timeout                 = "10m"
  ssh_host                    = var.instance_host
  ssh_port                    = var.instance_port

  ami_name        = var.ami_name
  ami_description = "preheat ${var.version}, commit ${var.git_commit}"
  tags            = merge(var.tags, local.ami_tags)
  snapshot_tags   = merge(var.tags, local.ami_tags)
  run_tags        = merge(var.tags, local.run_tags)
  run_volume_tags = merge(var.tags, local.run_tags)

  # An AMI of this size takes minutes, and hours when the snapshot service is busy.
  aws_polling {
    delay_seconds = 10
    max_attempts  = 1440
  }

  # A zone without capacity answers with a server error, which is retried; trying the next zone is better.
  max_retries = 5

  custom_endpoint_ec2     = var.ec2_endpoint
  skip_region_validation  = var.ec2_endpoint != ""
  skip_metadata_api_check = var.ec2_endpoint != ""

  # Require IMDSv2, on the builder and on instances launched from the AMI.
  imds_support = "v2.0"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

locals {
  ami_tags = {
    Name                      = var.ami_name
    "preheat:inputs"          = var.inputs
    "preheat:instance-type"   = var.instance_type
    "preheat:parameter"       = var.ssm_parameter
    "preheat:run"             = var.run
    "preheat:version"         = var.version
    "preheat:git-commit"      = var.git_commit
    "preheat:source-ami"      = "{{ .SourceAMI }}"
    "preheat:source-ami-name" = "{{ .SourceAMIName }}"
  }
  # Packer sets these tags when it creates the AMI, and ami_tags at the end. By preheat:inputs, the policy in
  # docs/builder-policy.json recognises AMIs that may be changed.
  run_tags = {
    Name             = "${var.run} (builds ${var.ami_name})"
    "preheat:run"    = var.run
    "preheat:inputs" = var.inputs
  }
}
